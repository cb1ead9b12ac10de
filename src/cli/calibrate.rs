//! `stablerep calibrate`.

use std::path::PathBuf;

use crate::answer;
use crate::captions::Options;
use crate::cli::captions::CaptionArgs;
use crate::cli::model::{LoraArgs, Model};
use crate::cli::pairs;
use crate::device::Device;
use crate::error::Result;
use crate::generate::{self, Calibrate, Calibrated, Drawing, Precision};

/// Find the scales that `generate --fp8` needs, and see what fp8 changes.
///
/// Draws the first captions of a file in 16 bits, keeping the largest magnitude of what each layer reads, and writes
/// these ranges to --output. Then draws the same pictures with the convolutions and linear layers of the UNet in fp8
/// (e4m3; weights have a scale per output, inputs one per layer) and says how far they are apart. First and last
/// layers, changes of resolution, shortcuts, attention, text encoder and decoder stay in 16 bits. Needs a GPU with fp8:
/// Ada, Hopper or newer.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    stablerep calibrate --model stable-diffusion-v1-5 --captions captions.txt --output fp8.json --sheet fp8.png\n  \
    stablerep generate --model stable-diffusion-v1-5 --captions captions.txt --output shards --device cuda --fp8 fp8.json")]
pub struct Args {
    /// Diffusers folder of a Stable Diffusion model, or `bundled` for the tiny one in the binary
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    loras: LoraArgs,
    /// Captions like those to be drawn: .txt (one per line), .csv or .tsv; - is standard input
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
    /// Captions to draw, from the first on
    #[arg(long, value_name = "N", default_value_t = 16)]
    limit: usize,
    /// Where the ranges go
    #[arg(long, value_name = "FILE", default_value = "fp8.json")]
    output: PathBuf,
    /// Both drawings of every caption side by side, as PNG: 16 bits, then fp8
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Layers whose names contain this stay in 16 bits; may be given several times, e.g. `up_blocks.3`
    #[arg(long, value_name = "PART")]
    keep_wide: Vec<String>,
    #[command(flatten)]
    drawing: Drawing,
    /// Images drawn at once [default: what fits, up to 64]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    #[command(flatten)]
    caption_flags: CaptionArgs,
    /// Where to compute: cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    device: String,
    /// How weights and feature maps are stored that are not fp8 [default: f16]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let model = Model::open(args.model)?;
    let config = Calibrate {
        model: model.folder().to_path_buf(),
        loras: args.loras.open()?,
        captions: args.captions,
        caption_options: Options { limit: Some(args.limit), ..args.caption_flags.options() },
        device: Device::parse(&args.device)?,
        precision: args.precision,
        drawing: args.drawing,
        batch: args.batch,
        keep_wide: args.keep_wide,
        output: args.output,
        sheet: args.sheet,
    };
    report(&config, &generate::calibrate(&config)?);
    Ok(())
}

fn report(config: &Calibrate, Calibrated { calibration, wide, differences }: &Calibrated) {
    let ranges = &calibration.ranges;
    answer!("{} layers in fp8, {} more stay in 16 bits: {}", ranges.len(), wide.len(), config.output.display());
    let by_range = |a: &(&String, &f32), b: &(&String, &f32)| a.1.total_cmp(b.1);
    if let (Some(low), Some(high)) = (ranges.iter().min_by(by_range), ranges.iter().max_by(by_range)) {
        answer!("ranges from {:.3} ({}) to {:.3} ({})", low.1, low.0, high.1, high.0);
    }
    pairs::tell("fp8 against 16 bits", differences);
    if let Some(sheet) = &config.sheet {
        answer!("look at {}", sheet.display());
    }
}
