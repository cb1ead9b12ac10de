//! `stablerep eval`: a trained encoder to scores, one command per protocol.

mod aro;
mod data;
mod diversity;
pub mod encoder;
mod fairface;
mod few_shot;
mod fid;
mod language;
pub mod linear;
mod retrieval;
mod segment;
mod transfer;
mod zero_shot;

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
    ZeroShot(Box<zero_shot::Args>),
    Retrieval(Box<retrieval::Args>),
    Fairface(Box<fairface::Args>),
    Aro(Box<aro::Args>),
    Segment(Box<segment::Args>),
    Fid(Box<fid::Args>),
    Diversity(Box<diversity::Args>),
}

/// Runs one protocol.
pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Linear(args) => linear::run(*args),
        What::Transfer(args) => transfer::run(*args),
        What::FewShot(args) => few_shot::run(*args),
        What::ZeroShot(args) => zero_shot::run(*args),
        What::Retrieval(args) => retrieval::run(*args),
        What::Fairface(args) => fairface::run(*args),
        What::Aro(args) => aro::run(*args),
        What::Segment(args) => segment::run(*args),
        What::Fid(args) => fid::run(*args),
        What::Diversity(args) => diversity::run(*args),
    }
}
