//! `stablerep eval aro`: captions against those whose words stand in another order.

use std::fs;
use std::path::PathBuf;

use super::language::Language;
use crate::bail;
use crate::error::{Error, Result};
use crate::eval::pairs::aro::aro;

/// Score an encoder with its text tower on ARO: relations, attributes, or shuffled captions.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Lists (--list) are JSON, as their authors publish them: visual_genome_relation.json and visual_genome_attribution.json, whose
cases have image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption, false_caption and relation_name or attributes. For the
orders of COCO and Flickr30k, write one with cases of image and captions, the true caption first, then those that are
shuffled.

Of equally similar captions the authors' choice is taken: of two the false one, also where both are
one text, of several the true one. A case of several that are all the same is refused.

Example: stablerep eval aro --checkpoint run --images vg/images --list visual_genome_relation.json --leave-out symmetric.txt")]
pub struct Args {
    /// Folder that the list's files are named from
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The list of cases
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    /// A file with the names of relations, a line each, that have no part in the mean, as symmetric ones have none in
    /// published figures
    #[arg(long, value_name = "FILE")]
    leave_out: Option<PathBuf>,
    #[command(flatten)]
    language: Language,
}

/// Scores and prints the table.
pub fn run(args: Args) -> Result<()> {
    let left_out = match &args.leave_out {
        Some(path) => fs::read_to_string(path).map_err(Error::io("read", path))?,
        None => String::new(),
    };
    let left_out: Vec<String> =
        left_out.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if let (Some(path), true) = (&args.leave_out, left_out.is_empty()) {
        bail!(Data, "--leave-out {}: no name in it; expected those of relations, a line each", path.display());
    }
    let open = |named: Option<&str>, length| args.language.open(named, length);
    let report = aro(&args.language.job()?, &args.images, &args.list, &left_out, &open)?;
    crate::console::to_stdout(format_args!("{}", report.text(args.language.markdown)));
    Ok(())
}
