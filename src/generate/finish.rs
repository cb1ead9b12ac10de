//! The end of a run: what describes the whole folder, written by the rank that finds every shard done.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::{Demands, Held, STATS_FILE, Stats, Unit};
use crate::bail;
use crate::dist::Ranks;
use crate::error::{Error, Result};
use crate::image::{self, sheet};
use crate::say;
use crate::shards::{self, Shards};
use crate::store;

/// Captions shown on the contact sheet, spread over the whole run.
const SHEET_ROWS: usize = 12;
/// Images of a caption shown at most.
const SHEET_COLUMNS: usize = 10;

/// Sums up the shards that are done. When that is all of them, writes `sizes.json`, `contact-sheet.png` and, last,
/// `stats.json`: who finds `stats.json` finds a complete folder.
///
/// # Errors
/// If shards of this process are not there any more: somebody took them away while it drew the others.
pub(super) fn when_all_done(folder: &Path, demands: &Demands<'_>, units: &[Unit], ranks: Ranks) -> Result<Stats> {
    // Two ranks may end at the same moment.
    let _lock = store::lock_folder(folder)?;
    let mut done = 0;
    let mut total = Stats::default();
    let mut sizes = BTreeMap::new();
    let mut lost = Vec::new();
    for unit in units {
        // What was lost of another rank's shards is for that rank to make again.
        if let Held::Done(stats) = unit.held(folder, demands)? {
            done += 1;
            sizes.insert(unit.tar_name(), stats.images);
            total.add(&stats);
        } else if ranks.mine(unit.index) {
            lost.push(unit.tar_name());
        }
    }
    if let Some(first) = lost.first() {
        bail!(
            Failed,
            "{}: {} shard(s) that were drawn are not there or not whole any more, e.g. {first}; run the same command again: \
             they are drawn again to the same bytes",
            folder.display(),
            lost.len()
        );
    }
    if done < units.len() {
        say!(
            "{}: not finished: {done} of {} shards are done; the rest is for the other ranks to draw",
            folder.display(),
            units.len()
        );
        return Ok(total);
    }
    shards::write_sizes(folder, &sizes)?;
    write_sheet(folder, demands.images_per_caption, units)?;
    total.write(&folder.join(STATS_FILE))?;
    Ok(total)
}

/// What is wrong with a shard, and that there is a way to have it whole again.
fn damaged(tar: &Path, error: Error) -> Error {
    match error {
        Error::Data(what) => Error::Data(format!(
            "{}: damaged ({what}); remove it and run the same command again: it is drawn again to the same bytes",
            tar.display()
        )),
        other => other,
    }
}

/// Rows are captions, columns the m images of each. Shards that were moved away are left out; a sheet that was drawn
/// before they were stays.
fn write_sheet(folder: &Path, images_per_caption: usize, units: &[Unit]) -> Result<()> {
    let captions: usize = units.iter().map(|unit| unit.captions.len()).sum();
    let rows = captions.min(SHEET_ROWS);
    let path = folder.join("contact-sheet.png");
    let shown = |row: usize| {
        let caption = row * captions / rows;
        units.iter().find(|unit| unit.captions.contains(&caption)).map(|unit| (caption, unit))
    };
    let away = (0..rows).filter_map(shown).filter(|(_, unit)| !unit.tar(folder).exists()).count();
    if away > 0 {
        let kept = if path.exists() { "stays as it is" } else { "is without them" };
        say!(
            "{}: {away} captions of the contact sheet are in shards that were moved away; it {kept}",
            folder.display()
        );
    }
    if away > 0 && path.exists() || away == rows {
        return Ok(());
    }
    let mut sheet_rows = Vec::new();
    let mut open: Option<(usize, Shards)> = None;
    for (caption, unit) in (0..rows).filter_map(shown).filter(|(_, unit)| unit.tar(folder).exists()) {
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
                    unit.tar(folder).display()
                );
            }
            let sample = shard.sample(index);
            let shown = || -> Result<_> {
                let picture = image::decode(&sample.picture()?.read()?, &sample.name())?;
                Ok((sample.record()?.caption.unwrap_or_default(), picture))
            };
            let (caption, picture) = shown().map_err(|error| damaged(&unit.tar(folder), error))?;
            label = caption;
            images.push(picture);
        }
        sheet_rows.push(sheet::SheetRow::new(label, images));
    }
    let title = sheet::title((rows - away, captions), (images_per_caption.min(SHEET_COLUMNS), images_per_caption));
    let bytes = image::encode_png(&sheet::contact_sheet(&title, &sheet_rows)?)?;
    store::write_atomic(path, &bytes)
}
