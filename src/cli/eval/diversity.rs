//! `stablerep eval diversity`: how unlike the pictures of captions are.

use std::path::PathBuf;

use super::encoder::{Encoder, Preparation, Sizes};
use crate::error::Result;
use crate::eval::diversity::{self, DiversityConfig};

/// How unlike generated pictures are: within a caption, between captions, and as a whole.
///
/// By the features of an encoder, scaled to unit length: the mean cosine of two pictures of one caption and of two of
/// different captions; the Vendi score (Friedman & Dieng 2022), how many pictures with nothing in common would be as
/// diverse; alignment and uniformity (Wang & Isola 2020). Captions whose pictures are near-copies of each other are
/// named. Cosines are an encoder's: compare figures of the same encoder alone.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Sets (--sets) are webdataset shards of pictures with captions: a folder of *.tar (as `generate`
writes), a tar, a pattern such as dir/{00000..00012}.tar, or the folder of
`generate --sweep-guidance`, of which each w=… is a set. Pictures of equal text are pictures of one
caption.

Example: stablerep eval diversity --checkpoint run --sets sweep --output diversity")]
pub struct Args {
    #[command(flatten)]
    encoder: Encoder,
    /// Shards of pictures with captions: one or more sets, or sweeps
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    sets: Vec<PathBuf>,
    /// Mean cosine of a caption's pictures above which they are near-copies
    #[arg(long, value_name = "COSINE", default_value_t = 0.95, allow_negative_numbers = true)]
    near: f64,
    #[command(flatten)]
    preparation: Preparation,
    /// Damaged pictures of all sets together to leave out (each is named) before the evaluation refuses to begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
    /// Seed of --random-init
    #[arg(long, default_value_t = 0, conflicts_with = "checkpoint")]
    seed: u64,
    /// Folder for report.json
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
    // Flattened groups come last: their help heading holds for every argument after it.
    #[command(flatten)]
    sizes: Sizes,
}

/// Measures and prints the table.
pub fn run(args: Args) -> Result<()> {
    let markdown = args.markdown;
    let report = diversity::run(&args.config()?)?;
    crate::console::to_stdout(format_args!("{}", if markdown { report.markdown() } else { report.text() }));
    Ok(())
}

impl Args {
    fn config(self) -> Result<DiversityConfig> {
        Ok(DiversityConfig {
            placement: self.encoder.placement(self.output.as_deref())?,
            model: self.encoder.source(&self.sizes, self.seed)?,
            fit: self.preparation.fit,
            resize: self.preparation.resize,
            sets: self.sets,
            near: self.near,
            max_bad: self.max_bad,
            output: self.output,
        })
    }
}
