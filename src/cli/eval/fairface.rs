//! `stablerep eval fairface`: faces by race and gender, zero-shot.

use std::path::PathBuf;

use super::language::Language;
use crate::error::Result;
use crate::eval::zero_shot::fairface::fairface;

/// Score an encoder with its text tower on FairFace: race, gender and both, the mean, best and worst class of each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example: stablerep eval fairface --checkpoint run --images fairface --list fairface/fairface_label_val.csv")]
pub struct Args {
    /// Folder that the list's files are named from, such as that which holds val/
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The authors' list of faces: csv with the columns file, gender and race
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    #[command(flatten)]
    language: Language,
}

/// Scores and prints the table.
pub fn run(args: Args) -> Result<()> {
    let open = |named: Option<&str>, length| args.language.open(named, length);
    let report = fairface(&args.language.job()?, &args.images, &args.list, &open)?;
    crate::console::to_stdout(format_args!("{}", report.text(args.language.markdown)));
    Ok(())
}
