//! The end of a run: what describes the whole folder, written by the rank that finds every shard done.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::{Stats, Unit};
use crate::bail;
use crate::error::{Error, Result};
use crate::image::{self, sheet};
use crate::say;
use crate::shards::{self, Shards};
use crate::store;

/// Captions shown on the contact sheet, spread over the whole run.
const SHEET_ROWS: usize = 12;
/// Images of a caption shown at most.
const SHEET_COLUMNS: usize = 10;

/// Sums up the shards that exist. When that is all of them, writes `sizes.json`, `contact-sheet.png` and, last, `stats.json`:
/// who finds `stats.json` finds a complete folder.
pub(super) fn when_all_done(folder: &Path, images_per_caption: usize, units: &[Unit]) -> Result<Stats> {
    // Two ranks may end at the same moment.
    let _lock = store::lock_folder(folder)?;
    let done: Vec<&Unit> = units.iter().filter(|unit| unit.done(folder)).collect();
    let mut total = Stats::default();
    let mut sizes = BTreeMap::new();
    for unit in &done {
        let stats = unit.read_stats(folder)?;
        sizes.insert(unit.tar_name(), stats.images);
        total.add(&stats);
    }
    if done.len() < units.len() {
        say!(
            "{}: {} of {} shards are done; other ranks are at work on the rest",
            folder.display(),
            done.len(),
            units.len()
        );
        return Ok(total);
    }
    shards::write_sizes(folder, &sizes)?;
    write_sheet(folder, images_per_caption, units)?;
    let text = serde_json::to_string_pretty(&total).map_err(|e| Error::Failed(e.to_string()))?;
    store::write_atomic(folder.join("stats.json"), (text + "\n").as_bytes())?;
    Ok(total)
}

/// Rows are captions, columns the m images of each.
fn write_sheet(folder: &Path, images_per_caption: usize, units: &[Unit]) -> Result<()> {
    let captions: usize = units.iter().map(|unit| unit.captions.len()).sum();
    let rows = captions.min(SHEET_ROWS);
    let mut sheet_rows = Vec::new();
    let mut open: Option<(usize, Shards)> = None;
    for row in 0..rows {
        let caption = row * captions / rows;
        let Some(unit) = units.iter().find(|unit| unit.captions.contains(&caption)) else { continue };
        if open.as_ref().is_none_or(|(index, _)| *index != unit.index) {
            open = Some((unit.index, Shards::open(&[unit.tar(folder)])?));
        }
        let Some((_, shard)) = &open else { continue };
        let first = (caption - unit.captions.start) * images_per_caption;
        let mut images = Vec::new();
        let mut label = String::new();
        for index in first..first + images_per_caption.min(SHEET_COLUMNS) {
            if index >= shard.len() {
                bail!(
                    Data,
                    "{}: fewer samples than it was made with; delete it to have it made again",
                    unit.tar_name()
                );
            }
            let sample = shard.sample(index);
            label = sample.record()?.caption.unwrap_or_default();
            images.push(image::decode(&sample.picture()?.read()?, &sample.name())?);
        }
        sheet_rows.push(sheet::SheetRow { label, images });
    }
    let title = sheet::title((rows, captions), (images_per_caption.min(SHEET_COLUMNS), images_per_caption));
    let bytes = image::encode_png(&sheet::contact_sheet(&title, &sheet_rows)?)?;
    store::write_atomic(folder.join("contact-sheet.png"), &bytes)
}
