//! `stablerep eval`: a trained encoder to scores, one command per protocol.

mod data;
mod encoder;
mod few_shot;
pub mod linear;
mod transfer;

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
    Linear(Box<linear::Args>),
    Transfer(Box<transfer::Args>),
    FewShot(Box<few_shot::Args>),
}

/// Runs one protocol.
pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Linear(args) => linear::run(*args),
        What::Transfer(args) => transfer::run(*args),
        What::FewShot(args) => few_shot::run(*args),
    }
}
