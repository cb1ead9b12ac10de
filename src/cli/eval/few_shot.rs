//! `stablerep eval few-shot`: classes told apart by a few images of each.

use std::path::PathBuf;

use super::data::{Named, Preparation, layouts, once, parse};
use super::encoder::{Encoder, Sizes};
use crate::error::Result;
use crate::eval::few_shot::episode::{self, Protocol};
use crate::eval::few_shot::{FewShotConfig, few_shot};

/// Score a frozen encoder on episodes of a few classes with a few labelled images each.
///
/// An episode draws classes and images of each by --seed and its number; a query belongs to the class whose mean is the
/// nearest. Given is the mean over episodes and 1.96 standard errors of it. There are two protocols in public use, and
/// figures of one are no figures of the other.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!(
    "{}(not voc2007, whose images show several things)\n\nExample: stablerep eval few-shot --checkpoint run --data \
     dtd=data/dtd --protocol lgssl --output scores",
    layouts()
))]
pub struct Args {
    #[command(flatten)]
    encoder: Encoder,
    /// A data set and its folder; may be given once for each
    #[arg(long, value_name = "NAME=PATH", required = true, value_parser = parse)]
    data: Vec<Named>,
    /// Whose rules hold
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Classes of an episode
    #[arg(long, value_name = "N", default_value_t = 5)]
    ways: usize,
    /// Images of each class to learn from
    #[arg(long, value_name = "N", default_value_t = 5)]
    shots: usize,
    /// Images of each class to tell apart, or as many as there are [default: 15 for ssl-transfer, 6 for lgssl]
    #[arg(long, value_name = "N")]
    queries: Option<usize>,
    /// Episodes [default: 600 for ssl-transfer, 5000 for lgssl]
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Damaged images of each data set to leave out (each is named) before it is refused
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
    #[command(flatten)]
    preparation: Preparation,
    /// Seed of the episodes, of the parts that authors did not publish, and of --random-init
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for report.json
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
    let (queries, episodes) = match args.protocol {
        Protocol::SslTransfer => (15, 600),
        Protocol::Lgssl => (6, 5000),
    };
    let report = few_shot(&FewShotConfig {
        placement: args.encoder.placement(Some(&args.output))?,
        model: args.encoder.source(&args.sizes, args.seed)?,
        data: once(args.data)?,
        max_bad: args.max_bad,
        fit: args.preparation.fit,
        resize: args.preparation.resize,
        protocol: args.protocol,
        sizes: episode::Sizes { ways: args.ways, shots: args.shots, queries: args.queries.unwrap_or(queries) },
        episodes: args.episodes.unwrap_or(episodes),
        seed: args.seed,
        output: args.output,
    })?;
    crate::console::to_stdout(format_args!("{}", report.text(args.markdown)));
    Ok(())
}
