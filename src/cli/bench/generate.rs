//! `stablerep bench generate`.

use std::path::PathBuf;

use super::output;
use crate::answer;
use crate::bail;
use crate::bench::{self, Age, GenerateOptions, Length};
use crate::cli::model::{LoraArgs, Model};
use crate::device::Device;
use crate::error::Result;
use crate::generate::{CalibrationFile, Drawing, Encoding, ImageFormat, Precision};

/// Drawing images: images per second, latency, where the time goes, how much of the device is used.
///
/// Captions made up here go through what `stablerep generate` runs: two batches under way, encoded and written (to a
/// folder that is removed) while the next is drawn. A row per batch; the first lines say how long the start took and
/// how many FLOPs an image has. On the simulated driver, which has no times, launches and bytes of one batch are
/// counted; it is told where to by CUDA_SIM_STATS=FILE.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Diffusers folder, as for `stablerep generate`
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    loras: LoraArgs,
    /// Images at once, such as 1,8,16,32 [default: from 1 doubled while it fits and draws 2 % more per second]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    batches: Vec<usize>,
    #[command(flatten)]
    drawing: Drawing,
    /// Downscale the shorter side to this before encoding [default: as drawn]
    #[arg(long, value_name = "PX")]
    store_size: Option<usize>,
    /// How images are encoded
    #[arg(long, value_enum, default_value_t = ImageFormat::Png)]
    format: ImageFormat,
    /// JPEG quality, with --format jpg [default: 95]
    #[arg(long, value_name = "Q")]
    quality: Option<u8>,
    /// Images to measure each batch over, at least, after its warm-up
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    images: Option<usize>,
    /// Seconds to measure each batch for, about, after its warm-up
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    device: String,
    /// What weights and feature maps are rounded to [default: f32 on the CPU, f16 on a GPU]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Compute convolutions and linear layers of the UNet in fp8, with the ranges that `calibrate` wrote here
    #[arg(long, value_name = "FILE")]
    fp8: Option<PathBuf>,
    /// Also write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// # Errors
/// Usage error for settings that cannot be run, data error for a folder that is no model, device error if there is no
/// usable GPU.
pub fn run(args: Args, age: Age) -> Result<()> {
    if let Some(batch) = args.batches.iter().find(|batch| !(1..=4096).contains(*batch)) {
        bail!(Usage, "--batches {batch}: expected 1 to 4096 images at once");
    }
    args.drawing.check()?;
    if args.images == Some(0) || !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        bail!(Usage, "--images, --seconds: expected at least 1 image, or more than 0 and at most 3600 seconds");
    }
    let quality = args.format.quality(args.quality)?;
    let model = Model::open(args.model)?;
    let options = GenerateOptions {
        model: model.folder().to_path_buf(),
        loras: args.loras.open()?,
        device: Device::parse(&args.device)?,
        precision: args.precision,
        fp8: args.fp8.as_deref().map(CalibrationFile::open).transpose()?,
        drawing: args.drawing,
        encoding: Encoding { store_size: args.store_size, format: args.format, quality },
        batches: args.batches,
        length: args.images.map_or(Length::Seconds(args.seconds), Length::Images),
        counts: output::counts(),
    };
    let report = bench::generate(&options, age, &mut |line| answer!("{line}"))?;
    output::write_json(args.json.as_deref(), &report)
}
