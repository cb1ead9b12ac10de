//! Caption files: one format per file, all giving numbered captions.
//!
//! A caption's id is its 0-based line (txt) or data-row (csv, tsv) number, counting blank and bad ones, so that filling
//! in a blank line or fixing a bad one later renumbers nothing. Ends are stripped, tabs and carriage returns become
//! spaces, as the official generator does (`docs/method.md`); nothing else is changed: no deduplication, no filter.

mod columns;
mod keys;
mod options;
mod reader;
pub mod rows;
mod source;
mod table;
mod txt;

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::bail;
use crate::config::hex;
use crate::error::Result;
pub use options::{Format, Options, Read};
use reader::Reader;
pub use reader::{Caption, MAX_CAPTION_BYTES};

/// What a caption file holds.
#[derive(Clone, Debug)]
pub struct Captions {
    pub list: Vec<Caption>,
    /// Lines or rows without any text; skipped, their ids stay unused.
    pub skipped_empty: usize,
    /// One message per bad line; skipped, their ids stay unused.
    pub bad: Vec<String>,
    /// How the file was understood, and what may be a mistake; to be told.
    pub notes: Vec<String>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    pub read: Read,
}

impl Captions {
    /// Reads a whole caption file; `-` is standard input. Empty, missing and binary files are refused; bad lines past
    /// `max_bad` too.
    ///
    /// # Errors
    /// Usage for options that do not fit the format or do not settle how to read the file; Data for what is in it.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        if path == Path::new("-") && options.format.is_none() {
            bail!(Usage, "--captions -: standard input has no extension; give --caption-format");
        }
        let (name, bytes) = source::read(path)?;
        let text = source::text(&name, &bytes)?;
        let format = options.format.map_or_else(|| source::format_of(path), Ok)?;
        let mut reader = Reader::new(name, options);
        let read = match format {
            Format::Txt => txt::read(text, &mut reader)?,
            Format::Csv | Format::Tsv => table::read(text, format, &mut reader)?,
        };
        let Reader { name, list, skipped_empty, bad, notes, .. } = reader;
        if list.is_empty() {
            bail!(Data, "{name}: no caption in it ({skipped_empty} empty and {} bad lines)", bad.len());
        }
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Self { list, skipped_empty, bad, notes, sha256, read })
    }
}
