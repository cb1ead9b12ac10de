//! Caption files: one format per file, all giving numbered captions.
//!
//! A caption's id is its 0-based line (txt) or data-row (csv, tsv) number, counting blank and bad ones, so that filling
//! in a blank line or fixing a bad one later renumbers nothing. Stripping and the replacement of tabs and carriage
//! returns follow the official generator (METHOD: one prompt per line, strip ends, tab/CR/LF to space); nothing else is
//! changed: no deduplication, no filter.

mod columns;
mod keys;
mod rows;
mod source;
mod table;
mod txt;

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bail;
use crate::error::Result;

/// Longest caption taken, bytes: CLIP reads 77 tokens, so a longer line is no caption but a damaged file.
pub const MAX_CAPTION_BYTES: usize = 1 << 20;

/// How a caption file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One caption per line.
    Txt,
    /// Comma-separated values with quoting.
    Csv,
    /// Tab-separated values.
    Tsv,
}

impl Format {
    /// As the flag and the extension spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Txt => "txt",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
        }
    }
}

/// How to read a caption file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// By the file's extension when absent.
    pub format: Option<Format>,
    /// csv and tsv: the column's name in the header row, or its number from 0.
    pub column: Option<String>,
    /// csv and tsv: whether the first row is a header. When absent it is one if columns are asked for by name or one of
    /// its fields is a usual name, none if the column is a number; what could be either is refused.
    pub header: Option<bool>,
    /// csv and tsv: the column that names the samples, by name or number.
    pub key_column: Option<String>,
    /// Bad lines tolerated before the file is refused.
    pub max_bad: usize,
    /// Captions taken, from the first on; all when absent. What follows the last is not looked at.
    pub limit: Option<usize>,
}

/// How a caption file was read, once everything is resolved: with the file's bytes it decides which captions there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub format: Format,
    /// csv and tsv: the caption's column, from 0.
    pub column: Option<usize>,
    /// Whether the first row holds names.
    pub header: bool,
    /// csv and tsv: the column that names the samples, from 0; they are named by the caption's number when absent.
    pub key_column: Option<usize>,
}

/// One caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caption {
    pub id: u64,
    pub text: String,
    /// Its field of the key column, if there is one: letters, digits, `-` and `_`, unlike that of any other caption.
    pub key: Option<Box<str>>,
}

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
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { list, skipped_empty, bad, notes, sha256, read })
    }
}

/// Where the formats put what they find; the rules that all formats share.
struct Reader<'a> {
    /// Of the file, for messages.
    name: String,
    options: &'a Options,
    list: Vec<Caption>,
    keys: keys::Keys,
    skipped_empty: usize,
    bad: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(name: String, options: &'a Options) -> Self {
        Self {
            name,
            options,
            list: Vec::new(),
            keys: keys::Keys::default(),
            skipped_empty: 0,
            bad: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether there are as many captions as wanted.
    fn full(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.list.len() >= limit)
    }

    /// Takes the bytes of caption `id`, found on line `line` (1-based) of the file, and of the field that names its
    /// samples.
    fn take(&mut self, id: u64, line: u64, bytes: &[u8], key: Option<&[u8]>) -> Result<()> {
        if bytes.len() > MAX_CAPTION_BYTES {
            let found = bytes.len();
            return self.reject(line, &format!("{found} bytes long, expected at most {MAX_CAPTION_BYTES}"));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => return self.reject(line, "a zero byte in the caption; expected text"),
            Ok(text) => text.trim().replace(['\t', '\r', '\n'], " "),
            Err(e) => {
                let at = e.valid_up_to();
                return self
                    .reject(line, &format!("invalid UTF-8 after byte {at} of the caption; save the file as UTF-8"));
            }
        };
        if text.is_empty() {
            self.skipped_empty += 1;
            return Ok(());
        }
        let key = match key.map(|key| self.keys.take(key, line)).transpose() {
            Ok(key) => key,
            Err(why) => return self.reject(line, &why),
        };
        self.list.push(Caption { id, text, key });
        Ok(())
    }

    /// Counts a bad line; fails past `max_bad`.
    fn reject(&mut self, line: u64, why: &str) -> Result<()> {
        self.bad.push(format!("{}:{line}: {why}", self.name));
        if self.bad.len() > self.options.max_bad {
            bail!(
                Data,
                "{}\n{} bad lines, --max-bad allows {}: fix the file, or raise --max-bad to skip them",
                self.bad.join("\n"),
                self.bad.len(),
                self.options.max_bad
            );
        }
        Ok(())
    }
}
