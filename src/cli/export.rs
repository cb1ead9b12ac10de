//! `stablerep export`: an encoder as a timm folder.

use std::path::PathBuf;

use crate::answer;
use crate::error::Result;
use crate::eval::encoder::{Encoder, ModelSource};
use crate::eval::timm;
use crate::models::vit::Whose;

/// Write an encoder as a timm folder.
///
/// The folder holds model.safetensors and config.json, with the mean and standard deviation the encoder was trained
/// with. A folder that holds anything else than an earlier export is refused.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Load the folder in Python with: timm.create_model(\"local-dir:DIR\", pretrained=True)")]
pub struct Args {
    /// Encoder: a training run or checkpoint, a folder or file of timm, or an official checkpoint as safetensors: of
    /// StableRep, SynCLR, MAE, MoCo v3, DINO, or DINOv2 without registers
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// Folder for model.safetensors and config.json
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Attention heads, for a file that does not tell
    #[arg(long)]
    heads: Option<usize>,
    /// Whose weights, of a run with a momentum copy [default: teacher for dino and
    /// SynCLR, else student]
    #[arg(long, value_enum, value_name = "WHOSE")]
    weights: Option<Whose>,
}

/// Writes the folder and says what it holds.
pub fn run(args: Args) -> Result<()> {
    let Args { checkpoint: path, heads, weights, .. } = args;
    let encoder = Encoder::open(&ModelSource::Checkpoint { path, heads, weights, image_size: None })?;
    timm::export(&encoder, &args.output)?;
    answer!("{}: {}, from {}", args.output.display(), encoder.describe(), encoder.source());
    Ok(())
}
