//! `stablerep eval transfer`: logistic regression on the eleven data sets of the transfer literature.

use std::path::PathBuf;

use super::data::{Named, Preparation, layouts, once, parse};
use super::encoder::{Encoder, Sizes};
use crate::error::Result;
use crate::eval::transfer::{TransferConfig, transfer};

/// Score a frozen encoder on other data sets: logistic regression on its features.
///
/// For each of 45 strengths of the L2 penalty, evenly in their logarithm from 1e-6 to 1e5, a multinomial logistic
/// regression is fitted to the standardised features of the training images; the strength that is best on the
/// validation images is fitted again to both and tested once. Validation images are the authors' where they published
/// some, else a fifth of the training images, drawn by --seed; 30 images of each class of Caltech-101 are drawn to
/// train.
///
/// Reported are top-1, for aircraft, flowers, pets and caltech101 the mean of the classes' top-1, and for voc2007 the
/// mean over its 20 classes of 11-point average precision, each a regression of its own. The means over all eleven and
/// over nine, without CIFAR, are given when all are there. Data sets that are finished are kept in the output folder
/// and not done again as long as weights, images and settings are the same.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!(
    "{}\nExample: stablerep eval transfer --checkpoint run --data dtd=data/dtd --data \
     food101=data/food-101 --output scores",
    layouts()
))]
pub struct Args {
    #[command(flatten)]
    encoder: Encoder,
    /// A data set and its folder; may be given once for each
    #[arg(long, value_name = "NAME=PATH", required = true, value_parser = parse)]
    data: Vec<Named>,
    /// Damaged images of each data set to leave out (each is named) before it is refused
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
    #[command(flatten)]
    preparation: Preparation,
    /// Iterations of a regression at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    max_iterations: u32,
    /// Seed of the parts that authors did not publish, and of --random-init
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for report.json and for what is finished
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
    // Flattened groups come last: their help heading holds for every argument after it.
    #[command(flatten)]
    sizes: Sizes,
}

/// Scores and prints the table.
pub fn run(args: Args) -> Result<()> {
    let report = transfer(&TransferConfig {
        placement: args.encoder.placement(Some(&args.output))?,
        model: args.encoder.source(&args.sizes, args.seed)?,
        data: once(args.data)?,
        max_bad: args.max_bad,
        fit: args.preparation.fit,
        resize: args.preparation.resize,
        max_iterations: args.max_iterations as usize,
        seed: args.seed,
        output: args.output,
    })?;
    crate::console::to_stdout(format_args!("{}", report.text(args.markdown)));
    Ok(())
}
