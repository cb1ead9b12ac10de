//! `stablerep bench`: how fast this machine does the work.

mod kernels;

use std::path::{Path, PathBuf};

use serde_json::Value;

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
    Kernels(kernels::Args),
}

/// # Errors
/// Those of what is measured.
pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Kernels(args) => kernels::run(args),
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
