//! Shards as tables and as a contact sheet.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use crate::answer;
use crate::bail;
use crate::cli::table::Table;
use crate::device::human_bytes;
use crate::error::Result;
use crate::image::sheet::{SheetRow, contact_sheet, title};
use crate::image::{decode, dimensions, encode_png};
use crate::metrics::Progress;
use crate::say;
use crate::shards::{CaptionGroups, SampleRef, Shards};
use crate::store::write_atomic;

/// Files listed one by one; more are summed up.
const LISTED: usize = 20;

/// Images of a caption on the sheet at most.
const COLUMNS: usize = 10;

/// Problems printed one by one; more are counted.
const PROBLEMS: usize = 20;

/// What one sample adds to the tables.
#[derive(Default)]
struct Seen {
    size: String,
    format: String,
    flags: Vec<String>,
    problem: Option<String>,
}

/// Prints the tables; draws `sheet` (file, rows). Problems are listed at the end and are an error.
pub fn inspect(path: &Path, check: bool, sheet: Option<(&Path, usize)>) -> Result<()> {
    let shards = Shards::open(&[path.to_path_buf()])?;
    let captions = CaptionGroups::new(&shards);
    let progress =
        Progress::bar(shards.len() as u64, if check { "decoding" } else { "reading headers" }, ("sample", 1));
    let seen: Vec<Seen> = (0..shards.len())
        .into_par_iter()
        .map(|index| {
            let seen = look(&shards.sample(index), check);
            progress.advance(1);
            seen
        })
        .collect();
    progress.finish();

    print_summary(path, &shards, &captions, &seen);
    print_files(&shards);
    if let Some((path, rows)) = sheet {
        draw_sheet(path, rows, &shards, &captions)?;
    }
    let mut problems: Vec<String> = shards.damage().iter().map(ToString::to_string).collect();
    problems.extend(captions.bad.iter().map(|(_, message)| message.clone()));
    problems.extend(seen.into_iter().filter_map(|one| one.problem));
    for problem in problems.iter().take(PROBLEMS) {
        say!("problem: {problem}");
    }
    if !problems.is_empty() {
        bail!(
            Data,
            "{}: {} problem(s); regenerate these shards, or train with --max-bad",
            path.display(),
            problems.len()
        );
    }
    Ok(())
}

fn look(sample: &SampleRef<'_>, check: bool) -> Seen {
    let Some((format, bytes)) = sample.image() else { return Seen::default() };
    let (size, problem) = match dimensions(bytes, &sample.name()) {
        Ok((width, height)) => (format!("{width}×{height}"), None),
        Err(e) => ("unreadable".to_string(), Some(e.to_string())),
    };
    let problem = match problem {
        None if check => decode(bytes, &sample.name()).err().map(|e| e.to_string()),
        known => known,
    };
    // A json that cannot be read is among the bad captions already.
    let flags = sample.flags().unwrap_or_default();
    Seen { size, format: format.to_string(), flags, problem }
}

fn print_summary(path: &Path, shards: &Shards, captions: &CaptionGroups, seen: &[Seen]) {
    let mut table = Table::new(&["shards", ""]);
    let mut line = |name: &str, value: String| table.row([name.to_string(), value]);
    let bytes: usize = shards.files().map(|(_, bytes)| bytes).sum();
    line("files", format!("{}, {}", shards.files().count(), human_bytes(bytes as u64)));
    line("samples", shards.len().to_string());
    line("captions", format!("{} ({} different texts)", captions.groups.len(), captions.texts));
    line("images per caption", counts(captions.groups.iter().map(|group| group.samples.len())));
    line("image sizes", counts(seen.iter().map(|one| one.size.as_str()).filter(|size| !size.is_empty())));
    line("formats", counts(seen.iter().map(|one| one.format.as_str()).filter(|format| !format.is_empty())));
    let flags = counts(seen.iter().flat_map(|one| &one.flags));
    line("flags", if flags.is_empty() { "none".into() } else { flags });
    if path.join("generate.json").exists() {
        let complete = path.join("stats.json").exists();
        line(
            "generation",
            if complete { "complete".into() } else { "not finished: run the command again to go on".into() },
        );
    }
    table.print();
}

/// `32×32 (240), 64×64 (3)`; one value that all share stands alone.
fn counts<T: Ord + std::fmt::Display>(values: impl Iterator<Item = T>) -> String {
    let mut counts = BTreeMap::<T, usize>::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    if counts.len() == 1 {
        return counts.into_iter().map(|(value, count)| format!("{value} (all {count})")).collect();
    }
    let mut parts: Vec<String> = counts.iter().take(6).map(|(value, count)| format!("{value} ({count})")).collect();
    if counts.len() > parts.len() {
        parts.push(format!("and {} more", counts.len() - parts.len()));
    }
    parts.join(", ")
}

fn print_files(shards: &Shards) {
    let mut samples = vec![0usize; shards.files().count()];
    shards.iter().for_each(|sample| samples[sample.file()] += 1);
    let mut table = Table::new(&["file", ">samples", ">bytes"]);
    for ((path, bytes), samples) in shards.files().zip(samples).take(LISTED) {
        table.row([path.display().to_string(), samples.to_string(), human_bytes(bytes as u64)]);
    }
    answer!();
    table.print();
    if let Some(more) = shards.files().count().checked_sub(LISTED).filter(|&more| more > 0) {
        answer!("and {more} more files");
    }
}

fn draw_sheet(path: &Path, rows: usize, shards: &Shards, captions: &CaptionGroups) -> Result<()> {
    let all = captions.groups.len();
    let rows = rows.min(all);
    let mut sheet = Vec::with_capacity(rows);
    for row in 0..rows {
        let group = &captions.groups[row * all / rows];
        let samples = || group.samples.iter().map(|&index| shards.sample(index as usize));
        let label = samples().find_map(|sample| sample.caption().ok().flatten()).unwrap_or_default();
        // Images that do not decode are problems of their own (--check); the sheet shows the others.
        let readable = |sample: SampleRef<'_>| sample.image().and_then(|(_, bytes)| decode(bytes, &sample.name()).ok());
        sheet.push(SheetRow { label, images: samples().filter_map(readable).take(COLUMNS).collect() });
    }
    let most = captions.groups.iter().map(|group| group.samples.len()).max().unwrap_or(0);
    let title = title((rows, all), (most.min(COLUMNS), most));
    write_atomic(path, &encode_png(&contact_sheet(&title, &sheet)?)?)?;
    answer!("\ncontact sheet of {title}: {}", path.display());
    Ok(())
}
