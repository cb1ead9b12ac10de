//! `stablerep bench`: how fast this machine does the work.

mod generate;
mod kernels;
mod output;
mod train;

use crate::bench::Age;
use crate::error::Result;

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
