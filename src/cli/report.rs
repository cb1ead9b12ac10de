//! `stablerep report`: shards, runs and evaluations as one page.

use std::path::PathBuf;

use crate::answer;
use crate::bail;
use crate::error::Result;
use crate::report::{self, Limits, Told};

/// Make one page to look at of shards, training runs and evaluations: pictures with their captions, curves, tables,
/// settings, and the paper's figures beside ours.
///
/// The page is a single HTML file that needs nothing else: no network, no script. Folders are looked through, so the
/// folder of a demo or of a sweep may be named as it is. What cannot be read is named, on the page too, and left out;
/// the rest is written, and the exit code is 3.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example: stablerep report shards run scores --output report.html")]
pub struct Args {
    /// Shards, runs and evaluations (folders with *.tar, metrics.jsonl or report.json, or folders of such folders)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The page
    #[arg(long, value_name = "PAGE", default_value = "report.html")]
    output: PathBuf,
    /// Captions shown of each set of shards
    #[arg(long, value_name = "N", default_value_t = 12)]
    captions: usize,
    /// Pictures shown of each caption
    #[arg(long, value_name = "N", default_value_t = 8)]
    pictures: usize,
}

/// Writes the page.
pub fn run(args: Args) -> Result<()> {
    let Args { paths, output, captions, pictures } = args;
    let Told { subjects, bad } = report::write(&paths, &output, Limits { captions, pictures })?;
    answer!("{}: {} of shards, runs and evaluations", output.display(), subjects - bad.len());
    match bad.first() {
        None => Ok(()),
        Some(first) => bail!(
            Data,
            "{}: was written without {} of {subjects}, which could not be read, or not wholly; the first: {first}",
            output.display(),
            bad.len()
        ),
    }
}
