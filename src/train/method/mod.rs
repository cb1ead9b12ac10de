//! The self-supervised methods: what a batch is made of, which of its images belong together, and what is learned of
//! them.
//!
//! `--batch` is the number of captions n of a step for every method. Runs of equal compute have equal images per step:
//! n·m for StableRep, n·2 for SimCLR, so SimCLR takes the n·m/2 captions that StableRep's n would become.

mod contrastive;
pub mod encoder;
mod mae;
mod network;
mod simclr;
mod stablerep;

use serde::{Deserialize, Serialize};

pub use encoder::AGAIN;
pub use network::{ENCODER, HEAD, Held, LOSS, Method, Network, Sizes, Views};

/// A method by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// The m images of a caption are positives of each other (and those of captions of the same text)
    #[value(name = "stablerep")]
    StableRep,
    /// Two crops of one image are positives of each other
    #[value(name = "simclr")]
    SimClr,
    /// Most patches of an image are removed and drawn from the rest (a masked autoencoder)
    #[value(name = "mae")]
    Mae,
}

impl Name {
    /// Whether images of a step are compared with each other.
    pub fn is_contrastive(self) -> bool {
        !matches!(self, Self::Mae)
    }

    pub fn method(self) -> &'static dyn Method {
        match self {
            Self::StableRep => &stablerep::StableRep,
            Self::SimClr => &simclr::SimClr,
            Self::Mae => &mae::MaskedAutoencoder,
        }
    }
}
