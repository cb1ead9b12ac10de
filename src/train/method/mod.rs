//! The self-supervised methods: what a batch is made of, which of its images belong together, and what is learned of
//! them.
//!
//! `--batch` is the number of captions n of a step for every method. Runs of equal compute have equal images per step:
//! n·m for StableRep, n·2 for the others, so SimCLR takes the n·m/2 captions that StableRep's n would become.

mod byol;
mod clip;
mod contrastive;
mod dino;
pub mod encoder;
mod finetune;
mod image_text;
mod mae;
mod moco_v3;
mod momentum;
mod network;
mod projections;
mod queue;
mod segment;
mod simclr;
mod slip;
mod stablerep;
mod stablerep_plus;
mod text_encoder;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::layers::training::Weights;
use crate::models::vit::Whose;

pub use encoder::AGAIN;
pub use network::{ENCODER, HEAD, Held, LOSS, MOMENTUM, Method, Network, SCALARS, Sizes, TEXTS, Views, ZeroShot};
pub use queue::{MOST_SLOTS, QUEUE_MOMENTUM};

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
    /// StableRep, and each image of a caption finds its text, each text its images
    #[value(name = "stablerep+", alias = "stablerep-plus")]
    #[serde(rename = "stablerep+")]
    StableRepPlus,
    /// Image and text of a caption find each other
    #[value(name = "clip")]
    Clip,
    /// CLIP, and SimCLR on two more crops
    #[value(name = "slip")]
    Slip,
    /// Most patches of an image are removed and drawn from the rest (a masked autoencoder)
    #[value(name = "mae")]
    Mae,
    /// One crop foretells, among all, what a momentum copy makes of the other
    #[value(name = "mocov3")]
    MocoV3,
    /// One crop foretells what a momentum copy makes of the other
    Byol,
    /// One crop foretells the class, of many without names, that a momentum copy gives the other
    Dino,
    /// The class (.cls) of an image is learned: supervised fine-tuning of an encoder (--init-from)
    #[value(name = "finetune")]
    FineTune,
    /// The classes of an image's pixels (.seg.png) are learned: supervised segmentation with an encoder (--init-from)
    Segment,
}

impl Name {
    /// As flags and files say it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether images of a step are compared with each other.
    pub fn is_contrastive(self) -> bool {
        !matches!(self, Self::Mae | Self::FineTune | Self::Segment)
    }

    /// Whether the loss may have a queue of keys: that of images against images alone.
    pub fn takes_queue(self) -> bool {
        matches!(self, Self::StableRep | Self::SimClr)
    }

    /// Whose encoder a run is judged by: whose a checkpoint of it is read by.
    pub(super) fn judged(self) -> Weights {
        match Whose::of_method(&self.name()) {
            Whose::Teacher => Weights::Momentum,
            Whose::Student => Weights::Online,
        }
    }

    pub fn method(self) -> &'static dyn Method {
        match self {
            Self::StableRep => &stablerep::StableRep,
            Self::SimClr => &simclr::SimClr,
            Self::StableRepPlus => &stablerep_plus::StableRepPlus,
            Self::Clip => &clip::Clip,
            Self::Slip => &slip::Slip,
            Self::Mae => &mae::MaskedAutoencoder,
            Self::MocoV3 => &moco_v3::MocoV3,
            Self::Byol => &byol::Byol,
            Self::Dino => &dino::Dino,
            Self::FineTune => &finetune::FineTuning,
            Self::Segment => &segment::Segmentation,
        }
    }
}
