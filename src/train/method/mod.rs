//! The self-supervised methods: what a batch is made of, which of its images belong together, and what is learned of
//! them.
//!
//! `--batch` is the number of captions n of a step for every method. Runs of equal compute have equal images per step:
//! n·m for StableRep, n·2 for SimCLR, so SimCLR takes the n·m/2 captions that StableRep's n would become.

mod contrastive;
mod simclr;
mod stablerep;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::groups::decay_groups;
use super::recipe::Recipe;
use crate::error::Result;
use crate::layers::training::{Buffer, Layers, Layout};
use crate::models::vit::VitFile;
use crate::ops::optimizer::Group;
use crate::weights::ParamTable;

/// The parts of an update whose work is reported: the encoder's and the head's forward, and the loss with its gradient.
pub const ENCODER: &str = "encoder, forward";
pub const HEAD: &str = "head, forward";
pub const LOSS: &str = "loss";

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
}

impl Name {
    pub fn method(self) -> &'static dyn Method {
        match self {
            Self::StableRep => &stablerep::StableRep,
            Self::SimClr => &simclr::SimClr,
        }
    }
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

/// A self-supervised method.
pub trait Method: Sync {
    /// The views of a caption when `images_per_caption` images were asked for.
    fn views(&self, images_per_caption: usize) -> Views;

    /// Turns the caption identities of a view-major batch of `captions` captions into the labels whose equals belong
    /// together.
    fn label(&self, labels: &mut [u32], captions: usize);

    /// What it trains, for steps as `recipe` says.
    ///
    /// # Errors
    /// Usage error if sizes do not fit.
    fn network(&self, recipe: &Recipe) -> Result<Box<dyn Network>>;
}

/// The networks of a method over one buffer of parameters, and what one step computes of them.
pub trait Network: Debug + Send + Sync {
    /// What is trained, by the names that a checkpoint gives it.
    fn parameters(&self) -> &ParamTable;

    /// What a step changes beside the parameters and a checkpoint keeps, such as running statistics.
    fn kept(&self) -> &ParamTable;

    /// Which parameters decay.
    fn groups(&self) -> Vec<Group> {
        decay_groups(self.parameters())
    }

    /// Initial values of parameters and of what is kept.
    fn init(&self, parameters: &mut [f32], kept: &mut [f32], seed: u64);

    /// Replaces what `file` holds: the encoder must be there, the rest may be. Returns in words what was.
    ///
    /// # Errors
    /// Bad data if the file cannot be used.
    fn load(&self, parameters: &mut [f32], kept: &mut [f32], file: &VitFile) -> Result<&'static str>;

    /// The tensors of a step.
    fn layout(&self) -> &Layout;

    /// Computes the loss of the call's images and labels, and adds its gradient.
    ///
    /// # Errors
    /// As the device's layers.
    fn gradient(&self, on: &mut dyn Layers) -> Result<()>;

    /// What a step stores, in the order it is computed, in words.
    fn activations(&self) -> Vec<(String, Buffer)>;
}
