//! How a caption file is to be read, and how it was.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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
