//! What settings of a recipe choose among.

use serde::{Deserialize, Serialize};

use crate::ops::augment::{Policy, Turn};

/// Over which rows the head's batch norm takes its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNorm {
    /// The k-th views of all captions on their own, as the official code
    PerSlot,
    /// The whole batch
    Global,
}

/// Random changes of the training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Crop (scale 0.08–1), colour jitter, grayscale, blur, flip: SimCLR's
    Strong,
    /// As strong, but two unlike views in turn, one always blurred, one sometimes solarised: BYOL's and MoCo v3's
    Byol,
    /// Crop (scale 0.5–1) and flip only
    Weak,
    /// Crop (scale 0.5–1) only: CLIP's
    Clip,
    /// One view as CLIP's, two strong: SLIP's
    Slip,
    /// Crop (scale 0.08–1, bicubic) and flip, RandAugment, random erasing, mixup or CutMix, made on the host:
    /// finetune's
    #[value(name = "finetune")]
    FineTune,
    /// Scale (0.5–2 of the model's side), crop, flip and colour as mmsegmentation does, made on the host: segment's
    Segment,
    /// None: images are resized to the model's size
    None,
}

impl Augmentation {
    pub(super) fn policy(self) -> Policy {
        match self {
            Self::Strong => Policy::Strong,
            Self::Byol => Policy::Byol(Turn::First),
            Self::Weak | Self::FineTune | Self::Segment => Policy::Weak,
            Self::Clip => Policy::Crop,
            Self::Slip => Policy::Slip,
            Self::None => Policy::None,
        }
    }
}

/// What a random crop is resized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CropFilter {
    /// The triangle, torchvision's default
    Bilinear,
    /// Keys' cubic
    Bicubic,
}

/// What updates are computed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
    /// SGD with momentum whose step is a thousandth of each tensor's own norm, but for biases and norms: SimCLR's and
    /// BYOL's
    Lars,
}

impl Optimizer {
    /// How many second moments it keeps of so many parameters.
    pub(in crate::train) fn second_moments(self, parameters: usize) -> usize {
        match self {
            Self::AdamW => parameters,
            Self::Lars => 0,
        }
    }
}

/// A length of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Passes over the captions, may be a fraction.
    Epochs(f64),
    /// Iterations.
    Steps(u64),
}

/// The height of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rate {
    /// Per 512 images of a step: peak = base · images / 512.
    Base(f64),
    /// The peak itself.
    Peak(f64),
}
