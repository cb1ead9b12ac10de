//! `stablerep eval`: a trained encoder to scores, one command per protocol.

mod diversity;
mod encoder;
mod fid;
pub mod linear;

use clap::Subcommand;

use crate::error::Result;

/// Score an encoder: one command per protocol.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// The protocols; each `Args` says what its own does.
#[derive(Debug, Subcommand)]
enum What {
    Diversity(Box<diversity::Args>),
    Fid(Box<fid::Args>),
    Linear(Box<linear::Args>),
}

/// Runs one protocol.
pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Diversity(args) => diversity::run(*args),
        What::Fid(args) => fid::run(*args),
        What::Linear(args) => linear::run(*args),
    }
}
