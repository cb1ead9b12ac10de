//! `stablerep eval retrieval`: captions of pictures, and pictures of captions.

use std::path::PathBuf;

use super::language::Language;
use crate::error::Result;
use crate::eval::pairs::retrieval::retrieval;

/// Score an encoder with its text tower by retrieval: whether what belongs together is among the first 1, 5 and 10.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example: stablerep eval retrieval --checkpoint run --images coco --list dataset_coco.json --split test")]
pub struct Args {
    /// Folder that the list's files are named from, such as that which holds val2014/
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Karpathy's list, such as dataset_coco.json or dataset_flickr30k.json
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    /// Which of the list's pictures
    #[arg(long, default_value = "test")]
    split: String,
    #[command(flatten)]
    language: Language,
}

/// Scores and prints the table.
pub fn run(args: Args) -> Result<()> {
    let open = |named: Option<&str>, length| args.language.open(named, length);
    let report = retrieval(&args.language.job()?, &args.images, &args.list, &args.split, &open)?;
    crate::console::to_stdout(format_args!("{}", report.text(args.language.markdown)));
    Ok(())
}
