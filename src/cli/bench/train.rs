//! `stablerep bench train`.

use std::path::PathBuf;

use super::output;
use crate::answer;
use crate::bail;
use crate::bench::{self, TrainOptions};
use crate::cli::train::Settings;
use crate::device::Device;
use crate::error::Result;

/// Training steps: images per second, where the time goes, how much of the device is used.
///
/// The whole update (augmentation, forward, loss, backward, AdamW) that `stablerep train` runs, as the graph it
/// replays, over pictures of noise that lie on the device: no shards, no decoding. Flags are those of `stablerep
/// train`; --steps is how many updates to measure, and what concerns data and schedule changes nothing. On the
/// simulated driver, which has no times, launches and bytes of one update are counted; it is told where to by
/// CUDA_SIM_STATS=FILE.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recipe that travels in the binary, as for `stablerep train`
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Seconds to measure, about, after the warm-up; --steps counts updates instead
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    device: String,
    /// Also write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// # Errors
/// Usage error for a recipe that cannot be run, device error if there is no usable GPU or it does not fit.
pub fn run(args: Args) -> Result<()> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        bail!(Usage, "--seconds {}: expected more than 0 and at most 3600", args.seconds);
    }
    let (recipe, steps) = args.settings.rehearsed(args.preset.as_deref())?;
    let (device, counts) = (Device::parse(&args.device)?, output::counts());
    let options =
        TrainOptions { recipe, device, steps: steps.map(|n| n.max(1) as usize), seconds: args.seconds, counts };
    let report = bench::train(&options, &mut |line| answer!("{line}"))?;
    output::write_json(args.json.as_deref(), &report)
}
