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
use crate::shards::{CaptionGroups, PictureRef, SampleRef, Shards, unfinished};
use crate::store::write_atomic;

/// Files listed one by one; more are summed up.
const LISTED: usize = 20;

/// Images of a caption on the sheet at most.
const COLUMNS: usize = 10;

/// Problems printed one by one; more are counted.
const PROBLEMS: usize = 20;

/// Samples named for each flag.
const FLAGGED: usize = 3;

/// First bytes of a picture in which its size is looked for before all of it is read.
const HEAD: u64 = 1 << 14;

/// What one sample adds to the tables.
#[derive(Default)]
struct Seen {
    /// Size and format of every picture.
    pictures: Vec<(String, String)>,
    flags: Vec<String>,
    problems: Vec<String>,
}

/// Prints the tables; draws `sheet` (file, rows). Problems are listed at the end and are an error.
pub fn inspect(path: &Path, check: bool, sheet: Option<(&Path, usize)>) -> Result<()> {
    let shards = Shards::open(&[path.to_path_buf()])?;
    let captions = CaptionGroups::new(&shards)?;
    let progress =
        Progress::bar(shards.len() as u64, if check { "decoding" } else { "reading headers" }, ("sample", 1));
    let seen: Vec<Seen> = (0..shards.len())
        .into_par_iter()
        .map(|index| {
            let seen = look(&shards.sample(index), check);
            progress.advance(1);
            seen
        })
        .collect::<Result<_>>()?;
    progress.finish();

    print_summary(path, &shards, &captions, &seen);
    print_files(&shards);
    if let Some((path, rows)) = sheet {
        draw_sheet(path, rows, &shards, &captions)?;
    }
    for note in shards.notes().iter().chain(&captions.notes).chain(&captions.left_out) {
        say!("note: {note}");
    }
    let mut problems: Vec<String> = shards.damage().iter().map(ToString::to_string).collect();
    problems.extend(captions.bad.iter().map(|(_, message)| message.clone()));
    problems.extend(seen.into_iter().flat_map(|one| one.problems));
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

fn look(sample: &SampleRef<'_>, check: bool) -> Result<Seen> {
    // A sample without clear pictures, or with texts that cannot be read, is among the bad captions already.
    let Ok(pictures) = sample.pictures() else { return Ok(Seen::default()) };
    let mut seen = Seen { flags: sample.record()?.flags, ..Seen::default() };
    for picture in pictures {
        let size = match size(&picture)? {
            Ok((width, height)) => format!("{width}×{height}"),
            Err(e) => {
                seen.problems.push(e.to_string());
                "unreadable".to_string()
            }
        };
        if check && size != "unreadable" {
            seen.problems.extend(decode(&picture.read()?, &picture.name()).err().map(|e| e.to_string()));
        }
        seen.pictures.push((size, picture.extension().to_string()));
    }
    Ok(seen)
}

/// Width and height of a picture; of most files the beginning tells.
fn size(picture: &PictureRef<'_>) -> Result<Result<(usize, usize)>> {
    let name = picture.name();
    Ok(match dimensions(&picture.read_head(HEAD)?, &name) {
        Ok(size) => Ok(size),
        Err(_) => dimensions(&picture.read()?, &name),
    })
}

fn print_summary(path: &Path, shards: &Shards, captions: &CaptionGroups, seen: &[Seen]) {
    let mut table = Table::new(&["shards", ""]);
    let mut line = |name: &str, value: String| table.row([name.to_string(), value]);
    let bytes: u64 = shards.files().map(|file| file.bytes).sum();
    line("files", format!("{}, {}", shards.files().len(), human_bytes(bytes)));
    line("samples", shards.len().to_string());
    line("captions", format!("{} ({} different texts)", captions.len(), captions.texts));
    line("images per caption", counts(captions.iter().map(|group| group.pictures.len())));
    let pictures = || seen.iter().flat_map(|one| &one.pictures);
    line("image sizes", counts(pictures().map(|(size, _)| size.as_str())));
    line("formats", counts(pictures().map(|(_, format)| format.as_str())));
    line("flags", flags(shards, seen));
    if path.join("generate.json").exists() {
        let generation = unfinished(path).map(|what| format!("not finished ({what}): run the command again to go on"));
        line("generation", generation.unwrap_or_else(|| "complete".into()));
    }
    table.print();
}

/// `truncated (2 of 6: KEY, KEY)` for every flag.
fn flags(shards: &Shards, seen: &[Seen]) -> String {
    let mut keys = BTreeMap::<&str, Vec<usize>>::new();
    for (index, one) in seen.iter().enumerate() {
        one.flags.iter().for_each(|flag| keys.entry(flag).or_default().push(index));
    }
    if keys.is_empty() {
        return "none".into();
    }
    let describe = |(flag, samples): (&str, Vec<usize>)| {
        let few: Vec<&str> = samples.iter().take(FLAGGED).map(|&index| shards.sample(index).key()).collect();
        let dots = if samples.len() > FLAGGED { ", …" } else { "" };
        format!("{flag} ({} of {}: {}{dots})", samples.len(), seen.len(), few.join(", "))
    };
    keys.into_iter().map(describe).collect::<Vec<_>>().join(", ")
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
    let mut table = Table::new(&["file", ">samples", ">bytes"]);
    for file in shards.files().take(LISTED) {
        table.row([file.path.display().to_string(), file.samples.to_string(), human_bytes(file.bytes)]);
    }
    answer!();
    table.print();
    if let Some(more) = shards.files().len().checked_sub(LISTED).filter(|&more| more > 0) {
        answer!("and {more} more files");
    }
}

fn draw_sheet(path: &Path, rows: usize, shards: &Shards, captions: &CaptionGroups) -> Result<()> {
    let all = captions.len();
    let rows = rows.min(all);
    let (mut sheet, mut unreadable) = (Vec::with_capacity(rows), 0);
    for row in 0..rows {
        let group = captions.get(row * all / rows);
        let mut label = String::new();
        let mut images = Vec::new();
        for &number in group.pictures {
            let picture = shards.picture(number)?;
            if images.is_empty() {
                label = picture.sample().record()?.caption.unwrap_or_default();
            }
            // Images that do not decode are problems of their own (--check); the sheet shows the others.
            match decode(&picture.read()?, &picture.name()) {
                Ok(image) => images.push(image),
                Err(error) => {
                    unreadable += 1;
                    if unreadable == 1 {
                        say!("not on the sheet: {error}");
                    }
                }
            }
            if images.len() == COLUMNS {
                break;
            }
        }
        sheet.push(SheetRow::new(label, images));
    }
    let most = captions.iter().map(|group| group.pictures.len()).max().unwrap_or(0);
    let title = title((rows, all), (most.min(COLUMNS), most));
    write_atomic(path, &encode_png(&contact_sheet(&title, &sheet)?)?)?;
    answer!("\ncontact sheet of {title}: {}", path.display());
    if unreadable > 0 {
        say!("pictures that do not decode: {unreadable}; the sheet leaves them out, --check lists them all");
    }
    Ok(())
}
