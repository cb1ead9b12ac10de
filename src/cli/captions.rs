//! Flags that say how a caption file is read; every command that takes one has them.

use crate::captions::{Format, Options};

/// How to read --captions.
#[derive(Clone, Debug, clap::Args)]
pub struct CaptionArgs {
    /// Format of the caption file [default: by its extension]
    #[arg(long, value_enum)]
    caption_format: Option<Format>,
    /// csv, tsv: the caption's column, by header name, or by number from 0 [default: caption, text, prompt or title]
    #[arg(long, value_name = "COLUMN", allow_negative_numbers = true)]
    caption_column: Option<String>,
    /// csv, tsv: the first row holds names [default: if columns are asked for by name, or one of the usual names is in
    /// it]
    #[arg(long, conflicts_with = "no_header")]
    header: bool,
    /// csv, tsv: the first row is a caption like all others [default: if columns are asked for by number]
    #[arg(long)]
    no_header: bool,
    /// Bad caption lines to skip (each is named) before giving up
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
}

impl CaptionArgs {
    /// With no limit and no key column.
    pub fn options(self) -> Options {
        let header = match (self.header, self.no_header) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        Options {
            format: self.caption_format,
            column: self.caption_column,
            header,
            max_bad: self.max_bad,
            ..Options::default()
        }
    }
}
