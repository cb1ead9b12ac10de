//! `stablerep bench train`.

use std::path::PathBuf;

use serde_json::Value;

use super::output;
use crate::answer;
use crate::bail;
use crate::bench::{self, TrainOptions};
use crate::cli::train::Settings;
use crate::device::{Device, parse_bytes};
use crate::error::Result;
use crate::train::{Activations, Recipe};

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
    /// Only say what of a card's memory a run would take, how many images' activations it would hold at once, and the
    /// FLOP of an update: no card is needed
    #[arg(long, requires = "memory", conflicts_with_all = ["device", "seconds"])]
    plan: bool,
    /// Free memory of the card to plan for, such as 80GB or 79.5GiB; may be given several times
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, requires = "plan")]
    memory: Vec<u64>,
    #[command(flatten)]
    settings: Settings,
}

/// # Errors
/// Usage error for a recipe that cannot be run, device error if there is no usable GPU or it does not fit.
pub fn run(args: Args) -> Result<()> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        bail!(Usage, "--seconds {}: expected more than 0 and at most 3600", args.seconds);
    }
    let device = Device::parse(&args.device)?;
    let (recipe, activations, steps) = args.settings.rehearsed(args.preset.as_deref(), device)?;
    if args.plan {
        let report = plan(&recipe, activations, &args.memory)?;
        return output::write_json(args.json.as_deref(), &report);
    }
    let counts = output::counts();
    let options = TrainOptions {
        recipe,
        activations,
        device,
        steps: steps.map(|n| n.max(1) as usize),
        seconds: args.seconds,
        counts,
    };
    let report = bench::train(&options, &mut |line| answer!("{line}"))?;
    output::write_json(args.json.as_deref(), &report)
}

#[cfg(cuda_kernels)]
fn plan(recipe: &Recipe, activations: Activations, memory: &[u64]) -> Result<Value> {
    bench::plan(recipe, activations, memory, &mut |line| answer!("{line}"))
}

/// A plan counts the scratch of kernels.
#[cfg(not(cuda_kernels))]
fn plan(_: &Recipe, _: Activations, _: &[u64]) -> Result<Value> {
    Device::parse("cuda:0").map(|_| Value::Null)
}
