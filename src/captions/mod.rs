//! Caption files: one format per file, all giving numbered captions.
//!
//! A caption's id is its 0-based line (txt) or data-row (csv, tsv) number, counting skipped ones, so that removing nothing but
//! fixing a bad line later renumbers nothing. Stripping and the replacement of tabs and carriage returns follow the official
//! generator (METHOD: one prompt per line, strip ends, tab/CR/LF to space); nothing else is changed: no deduplication, no filter.

mod table;
mod txt;

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bail;
use crate::error::{Error, Result};

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

/// How to read a caption file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// By the file's extension when absent.
    pub format: Option<Format>,
    /// csv and tsv: the column's name in the header row, or its 0-based number in a file without header.
    pub column: Option<String>,
    /// Unreadable lines tolerated before the file is refused.
    pub max_bad: usize,
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
}

/// What a caption file holds.
#[derive(Clone, Debug)]
pub struct Captions {
    pub list: Vec<Caption>,
    /// Lines without any text; skipped, their ids stay unused.
    pub skipped_empty: usize,
    /// One message per unreadable line; skipped, their ids stay unused.
    pub bad: Vec<String>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    pub read: Read,
}

impl Captions {
    /// Reads a whole caption file. Empty, missing and binary files are refused; unreadable lines past `max_bad` too.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Data(format!("{}: no such caption file; expected .txt, .csv or .tsv", path.display()))
            }
            _ => Error::io("read captions", path)(e),
        })?;
        if bytes.is_empty() {
            bail!(Data, "{}: the caption file is empty; expected one caption per line or row", path.display());
        }
        if bytes.contains(&0) {
            bail!(
                Data,
                "{}: the caption file is binary (a zero byte); expected UTF-8 text (save UTF-16 as UTF-8, unpack archives)",
                path.display()
            );
        }
        let mut read = Reader { path, options, list: Vec::new(), skipped_empty: 0, bad: Vec::new() };
        let format = options.format.map_or_else(|| format_of(path), Ok)?;
        let how = match format {
            Format::Txt => {
                txt::read(&bytes, &mut read)?;
                Read { format, column: None, header: false, key_column: None }
            }
            Format::Csv => table::read(&bytes, b',', &mut read)?,
            Format::Tsv => table::read(&bytes, b'\t', &mut read)?,
        };
        let Reader { list, skipped_empty, bad, .. } = read;
        if list.is_empty() {
            bail!(
                Data,
                "{}: no caption in it ({skipped_empty} empty and {} unreadable lines)",
                path.display(),
                bad.len()
            );
        }
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { list, skipped_empty, bad, sha256, read: how })
    }
}

fn format_of(path: &Path) -> Result<Format> {
    match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("txt") => Ok(Format::Txt),
        Some("csv") => Ok(Format::Csv),
        Some("tsv") => Ok(Format::Tsv),
        _ => Err(Error::Usage(format!(
            "{}: the extension does not tell the caption format; expected .txt, .csv or .tsv, or give --caption-format",
            path.display()
        ))),
    }
}

/// Where the formats put what they find; the rules that all formats share.
struct Reader<'a> {
    path: &'a Path,
    options: &'a Options,
    list: Vec<Caption>,
    skipped_empty: usize,
    bad: Vec<String>,
}

impl Reader<'_> {
    /// Takes the bytes of caption `id`, found on line `line` (1-based) of the file.
    fn take(&mut self, id: u64, line: u64, bytes: &[u8]) -> Result<()> {
        if bytes.len() > MAX_CAPTION_BYTES {
            let found = bytes.len();
            return self.reject(line, &format!("{found} bytes long, expected at most {MAX_CAPTION_BYTES}"));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.trim().replace(['\t', '\r', '\n'], " "),
            Err(e) => {
                return self.reject(line, &format!("invalid UTF-8 after byte {} of the caption", e.valid_up_to()));
            }
        };
        if text.is_empty() {
            self.skipped_empty += 1;
        } else {
            self.list.push(Caption { id, text });
        }
        Ok(())
    }

    /// Counts an unreadable line; fails past `max_bad`.
    fn reject(&mut self, line: u64, why: &str) -> Result<()> {
        self.bad.push(format!("{}:{line}: {why}", self.path.display()));
        if self.bad.len() > self.options.max_bad {
            bail!(
                Data,
                "{}\n{} unreadable lines, --max-bad allows {}: fix the file, or raise --max-bad to skip them",
                self.bad.join("\n"),
                self.bad.len(),
                self.options.max_bad
            );
        }
        Ok(())
    }
}
