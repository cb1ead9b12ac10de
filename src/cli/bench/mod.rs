//! `stablerep bench`: how fast this machine does the work.

mod generate;
mod kernels;
mod train;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bench::Age;
use crate::error::{Error, Result};
use crate::store;

/// Measure how fast this machine does the work.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Generate(Box<generate::Args>),
    Kernels(kernels::Args),
    Train(Box<train::Args>),
}

/// # Errors
/// Those of what is measured.
pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Generate(args) => generate::run(*args, Age::begin()),
        What::Kernels(args) => kernels::run(args),
        What::Train(args) => train::run(*args),
    }
}

/// Where the simulated driver appends its counts.
fn counts() -> Option<PathBuf> {
    std::env::var_os("CUDA_SIM_STATS").map(PathBuf::from)
}

/// Writes a report to the file asked for, if one was.
fn write_json(path: Option<&Path>, report: &Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report).map_err(|e| Error::Failed(e.to_string()))?;
    store::write_atomic(path, (text + "\n").as_bytes())
}
