//! The self-supervised methods: what a batch is made of, and which of its images belong together.
//! Both use the multi-positive contrastive loss; with two views of one image it is SimCLR's NT-Xent.
//!
//! `--batch` is the number of captions n of a step for every method. Runs of equal compute have equal images per step:
//! n·m for StableRep, n·2 for SimCLR, so SimCLR takes the n·m/2 captions that StableRep's n would become.

mod simclr;
mod stablerep;

use serde::{Deserialize, Serialize};

/// A self-supervised method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The m images of a caption are positives of each other (and those of captions of the same text)
    #[value(name = "stablerep")]
    StableRep,
    /// Two crops of one image are positives of each other
    #[value(name = "simclr")]
    SimClr,
}

/// What one caption contributes to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views {
    /// Different images of the caption, drawn without replacement.
    pub images: usize,
    /// Crops of each image.
    pub crops: usize,
}

impl Views {
    /// View slots: images of one caption in a batch.
    pub fn slots(self) -> usize {
        self.images * self.crops
    }
}

impl Method {
    /// The views of a caption when `images_per_caption` images were asked for.
    pub fn views(self, images_per_caption: usize) -> Views {
        match self {
            Self::StableRep => stablerep::views(images_per_caption),
            Self::SimClr => simclr::views(),
        }
    }

    /// Turns the caption identities of a view-major batch of `captions` captions into the labels whose equals are positives.
    pub fn label(self, labels: &mut [u32], captions: usize) {
        match self {
            Self::StableRep => stablerep::label(labels),
            Self::SimClr => simclr::label(labels, captions),
        }
    }
}
