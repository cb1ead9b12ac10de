//! What a method is, and what it trains.

use std::fmt::Debug;

use crate::bail;
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::{Buffer, Layers, Layout, MomentumCopy, Weights};
use crate::models::mae::MaeConfig;
use crate::models::text_tower::TextTower;
use crate::models::vit::{Vit, VitConfig, VitFile};
use crate::ops::optimizer::Group;
use crate::train::finetune::FineTune;
use crate::train::groups::decay_groups;
use crate::train::language::Language;
use crate::train::loader::{Batch, Section};
use crate::train::schedule::Position;
use crate::train::segment::Segment;
use crate::weights::{Param, ParamTable};

/// The parts of an update whose work is reported: the encoder's and the head's forward, and the loss with its gradient.
pub const ENCODER: &str = "encoder, forward";
pub const HEAD: &str = "head, forward";
pub const LOSS: &str = "loss";
/// And of a text tower.
pub const TEXTS: &str = "text tower, forward";
/// And the forward of a momentum copy.
pub const MOMENTUM: &str = "momentum copy, forward";

/// Activations as errors call them.
pub(super) fn outputs(named: impl IntoIterator<Item = (String, Buffer)>) -> impl Iterator<Item = (String, Buffer)> {
    named.into_iter().map(|(name, values)| (format!("the output of {name}"), values))
}

/// How many scalars a network may have.
pub const SCALARS: usize = 8;

/// What a network is made for.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub model: VitConfig,
    /// Width of the head's hidden layers, and of what the loss compares.
    pub head_dims: [usize; 2],
    /// Rows of a step of the model's size, in so many runs that the head's batch norms see each on its own.
    pub images: usize,
    /// Captions of a step.
    pub captions: usize,
    /// Small crops behind these rows.
    pub local: Option<Section>,
    pub norm_slots: usize,
    pub held: Held,
    /// Share of images that leave out a branch of the encoder's last block in training
    /// ([`crate::models::vit::DropPath`]).
    pub drop_path: f64,
    pub temperature: f32,
    /// Of a momentum copy, at the beginning of the run.
    pub momentum: f64,
    /// Slots of a queue of keys, for methods that may have one.
    pub queue: Option<usize>,
    /// Of what is drawn for a network beside its images.
    pub seed: u64,
    /// What a masked autoencoder has beside its encoder.
    pub mae: Option<MaeConfig>,
    /// What a classifier has beside its encoder.
    pub finetune: Option<FineTune>,
    /// What segmentation has beside its encoder.
    pub segment: Option<Segment>,
    /// Texts, of a method that reads them.
    pub language: Option<Language>,
}

impl Sizes {
    /// # Errors
    /// Usage error if there are none.
    pub(super) fn language(&self) -> Result<&Language> {
        match &self.language {
            Some(language) => Ok(language),
            None => bail!(Usage, "this method reads texts: give --tokenizer"),
        }
    }
}

/// How much of what an encoder computes is held for its backward ([`super::encoder::Encoder`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Images whose activations are held at once.
    pub images: usize,
    /// Whether their layer norms and GELUs are not, and the backward computes them again.
    pub again: bool,
}

/// What tells which of some texts a picture goes with.
#[derive(Clone, Copy, Debug)]
pub struct ZeroShot<'a> {
    pub tower: &'a TextTower,
    /// Matrices `[E, D]` that take the features of pictures and of texts to where they are compared.
    pub projections: [Param; 2],
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

    /// Whether each image may be taken in any number of crops, all of which belong together.
    fn takes_crops(&self) -> bool {
        false
    }

    /// Whether it reads the captions' texts.
    fn reads_texts(&self) -> bool {
        false
    }

    /// Turns the caption identities of a view-major batch of `captions` captions into the labels whose equals belong
    /// together.
    fn label(&self, labels: &mut [u32], captions: usize);

    /// Momentum of its momentum copy at the beginning of a run; none where it has no such copy.
    fn momentum(&self) -> Option<f64> {
        None
    }

    /// Whether its student sees small crops beside those of the model's size.
    fn takes_local_crops(&self) -> bool {
        false
    }

    /// Whether it has a projection head.
    fn has_head(&self) -> bool {
        true
    }

    /// Whether its loss has a temperature.
    fn has_temperature(&self) -> bool {
        true
    }

    /// Whether its heads have batch norms.
    fn has_batch_norm(&self) -> bool {
        true
    }

    /// Where the loss begins and where it may go, in words, for steps of `captions`.
    fn expectation(&self, captions: usize, views: Views, temperature: f64) -> String;

    /// What it trains.
    ///
    /// # Errors
    /// Usage error if sizes do not fit.
    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>>;
}

/// The networks of a method over one buffer of parameters, and what one step computes of them.
pub trait Network: Debug + Send + Sync {
    /// What is trained, by the names that a checkpoint gives it.
    fn parameters(&self) -> &ParamTable;

    /// What a step changes beside the parameters and a checkpoint keeps, such as running statistics.
    fn kept(&self) -> &ParamTable;

    /// The encoder that is trained.
    fn vit(&self) -> &Vit;

    /// What compares pictures with texts, where it is matrices that do.
    fn zero_shot(&self) -> Option<ZeroShot<'_>> {
        None
    }

    /// A learned scale of logits, which every update leaves in its bounds.
    fn bounded(&self) -> Option<Param> {
        None
    }

    /// Whether its loss is a sum of that of images among each other and that against texts, the first of which is
    /// noted.
    fn has_two_losses(&self) -> bool {
        false
    }

    /// Its momentum copy, where it has one.
    fn momentum(&self) -> Option<MomentumCopy> {
        None
    }

    /// How many values are kept beside the parameters of a momentum copy.
    fn statistics_len(&self) -> usize {
        self.momentum().map_or(self.kept().len(), |copy| copy.parameters.offset)
    }

    /// Numbers that change from step to step, [`SCALARS`] at most.
    fn scalars(&self, _: Position) -> Vec<f32> {
        Vec::new()
    }

    /// Which parameters decay, at what rates they learn, and from when on.
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

    /// Adds to `numbers`, the labels of a step's images, what else the step is given: for `batch`, update `step` of the
    /// run. As many at every step.
    ///
    /// # Errors
    /// Data error for a batch that the network cannot be given.
    fn number(&self, _batch: &Batch, _step: u64, _numbers: &mut Vec<u32>) -> Result<()> {
        Ok(())
    }

    /// How many numbers a step is given, labels among them.
    fn numbers(&self) -> usize;

    /// The smallest value that the loss may take for a step that is given `numbers`, where that is known.
    fn floor(&self, _numbers: &[u32]) -> Option<f64> {
        None
    }

    /// The tensors of a step.
    fn layout(&self) -> &Layout;

    /// Computes the loss of the call's images and numbers, and adds its gradient.
    ///
    /// # Errors
    /// As the device's layers.
    fn gradient(&self, on: &mut dyn Layers) -> Result<()>;

    /// Classifies the call's images by these weights, where that is what the network does: where their logits are,
    /// `[images, classes]`.
    ///
    /// # Errors
    /// As the device's layers.
    fn predict(&self, _on: &mut dyn Layers, _weights: Weights) -> Result<Option<Buffer>> {
        Ok(None)
    }

    /// What a step stores, in the order it is computed, in words.
    fn activations(&self) -> Vec<(String, Buffer)>;

    /// A picture of what the last step made of `batch` and `numbers`; `read` gives what it left in a buffer.
    ///
    /// # Errors
    /// Whatever `read`, or making the views, refuses.
    fn pictures(
        &self,
        _batch: &Batch,
        _numbers: &[u32],
        _read: &mut dyn FnMut(Buffer) -> Result<Vec<f32>>,
    ) -> Result<Option<Rgb8>> {
        Ok(None)
    }
}
