//! Contact sheets: one row per caption, its images side by side.

use super::canvas::{Canvas, wrap};
use super::{Filter, Rgb8, resize};
use crate::error::Result;

/// One row of a contact sheet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SheetRow {
    /// What stands at the left: the caption.
    pub label: String,
    pub images: Vec<Rgb8>,
    /// What stands under each image; as many as there are images, or fewer.
    pub notes: Vec<String>,
}

impl SheetRow {
    /// A row without notes.
    pub fn new(label: String, images: Vec<Rgb8>) -> Self {
        Self { label, images, notes: Vec::new() }
    }
}

const BACKGROUND: [u8; 3] = [250, 250, 248];
const STRIPE: [u8; 3] = [241, 242, 240];
const INK: [u8; 3] = [38, 42, 48];
const CAP: f32 = 9.0;
const LINE: f32 = 18.0;
const LABEL_WIDTH: usize = 190;

/// Capitals, lines and number of lines of what stands under an image.
const NOTE_CAP: f32 = 7.0;
const NOTE_LINE: f32 = 14.0;
const NOTE_LINES: usize = 3;
const MARGIN: usize = 16;
const GAP: usize = 6;

/// Side that larger images are shrunk to.
const TILE: usize = 128;

/// Side up to which smaller ones are enlarged, by a whole factor: their pixels stay visible.
const ENLARGED: usize = 96;

/// Rows of label and images on a light ground, below a line that says what they are part of. All images get the same
/// tile; labels are wrapped to the height of a tile, notes to its width.
pub fn contact_sheet(title: &str, rows: &[SheetRow]) -> Result<Rgb8> {
    let images = || rows.iter().flat_map(|row| &row.images);
    let longest = images().map(|image| image.width.max(image.height)).max().unwrap_or(TILE);
    let scale = (ENLARGED / longest.max(1)).max(1);
    let tile = if longest > TILE { TILE } else { longest * scale };
    let columns = rows.iter().map(|row| row.images.len()).max().unwrap_or(0);
    let notes: Vec<Vec<Vec<String>>> = rows
        .iter()
        .map(|row| row.notes.iter().map(|note| wrap(note, NOTE_CAP, tile as f32, NOTE_LINES)).collect())
        .collect();
    let note_lines = notes.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let notes_height = if note_lines == 0 { 0 } else { (NOTE_LINE * note_lines as f32) as usize + GAP };
    let row_height = tile.max(2 * LINE as usize) + GAP + notes_height;
    let width = MARGIN + LABEL_WIDTH + columns * (tile + GAP) + MARGIN;
    let first_row = MARGIN + LINE as usize;
    let mut canvas = Canvas::new(width, first_row + rows.len() * row_height + MARGIN, BACKGROUND);
    canvas.text(title, MARGIN as f32, MARGIN as f32 + CAP / 2.0, CAP, INK);
    for (index, row) in rows.iter().enumerate() {
        let top = first_row + index * row_height;
        if index % 2 == 0 {
            canvas.rectangle(0, top - GAP / 2, width, row_height, STRIPE);
        }
        let max_lines = (((row_height - GAP - notes_height) as f32 / LINE) as usize).max(1);
        let lines = wrap(&row.label, CAP, (LABEL_WIDTH - 2 * GAP) as f32, max_lines);
        let middle = top as f32 + (row_height - GAP - notes_height) as f32 / 2.0;
        let first = middle - LINE * (lines.len() as f32 - 1.0) / 2.0 + CAP / 2.0;
        for (i, line) in lines.iter().enumerate() {
            canvas.text(line, MARGIN as f32, first + LINE * i as f32, CAP, INK);
        }
        for (column, image) in row.images.iter().enumerate() {
            let x = MARGIN + LABEL_WIDTH + column * (tile + GAP);
            for (i, line) in notes[index].get(column).into_iter().flatten().enumerate() {
                let baseline = (top + tile) as f32 + NOTE_LINE * (i + 1) as f32;
                canvas.text(line, x as f32, baseline, NOTE_CAP, INK);
            }
            let shown = fit(image, tile)?;
            let picture = shown.as_ref().unwrap_or(image);
            let scale = if shown.is_some() { 1 } else { scale };
            let inset = |side: usize| (tile - (side * scale).min(tile)) / 2;
            canvas.picture(picture, x + inset(picture.width), top + inset(picture.height), scale);
        }
    }
    Ok(canvas.finish())
}

/// Which part of all captions a sheet shows, of which at most `images.0` of `images.1` each.
pub fn title((shown, all): (usize, usize), images: (usize, usize)) -> String {
    let captions = if shown == all { format!("all {all} captions") } else { format!("{shown} of {all} captions") };
    match images {
        (shown, all) if shown < all => format!("{captions}, {shown} of up to {all} images of each"),
        _ => captions,
    }
}

/// A smaller copy when `image` is larger than the tile.
fn fit(image: &Rgb8, tile: usize) -> Result<Option<Rgb8>> {
    let longest = image.width.max(image.height);
    if longest <= tile {
        return Ok(None);
    }
    let side = |s: usize| ((s * tile + longest / 2) / longest).max(1);
    resize(image, side(image.width), side(image.height), Filter::Lanczos).map(Some)
}
