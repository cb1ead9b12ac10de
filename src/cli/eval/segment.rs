//! `stablerep eval segment`: the classes of pixels.

use std::path::PathBuf;

use crate::device::Device;
use crate::error::Result;
use crate::eval::segment::{SegmentConfig, segment};

/// Score a run of `stablerep train --method segment`: mean intersection over union of the classes of pixels.
///
/// A picture's short side becomes that of a window (its long one at most four times that), windows slide over it, and
/// their logits are averaged where they overlap and resized to the picture: mmsegmentation's test at one scale. Pixels
/// without a class count for nothing; a class that no pixel has, and none was taken for, is no part of the mean.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Writes report.json and segmented.png: the first pictures, their labels, and what their pixels were taken for.

Example:
  stablerep train --preset segment-ade20k-vitb16 --data ADEChallengeData2016 --init-from run --output segmented
  stablerep eval segment --checkpoint segmented --data ADEChallengeData2016 --output scores")]
pub struct Args {
    /// A run of --method segment, or its checkpoint
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// Folder with images/validation and annotations/validation, as ADE20k's archive unpacks to, or shards of key.jpg
    /// and key.seg.png
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// A file with a name for every class, a line each
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
    /// Pixels between windows [default: two thirds of their side, as mmsegmentation's 341 of 512]
    #[arg(long, value_name = "PIXELS")]
    stride: Option<usize>,
    /// Windows that go through the network at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    windows: usize,
    /// Pictures to leave out that are damaged or without annotation (each is named) before the score is refused
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad: usize,
    /// Where it computes: cpu, cuda or cuda:N; a GPU computes with bf16 weights and activations
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Folder for report.json
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
}

/// Scores and prints the table.
pub fn run(args: Args) -> Result<()> {
    let report = segment(&SegmentConfig {
        checkpoint: args.checkpoint,
        device: Device::parse(&args.device)?,
        data: args.data,
        class_names: args.class_names,
        stride: args.stride,
        windows: args.windows,
        max_bad: args.max_bad,
        output: args.output,
    })?;
    crate::console::to_stdout(format_args!("{}", report.text(args.markdown)));
    Ok(())
}
