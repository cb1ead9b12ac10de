//! The heads there are, and the places of their tensors.

use serde::{Deserialize, Serialize};

use super::classify::PixelClassifier;
use super::conv::ConvNorm;
use super::neck::Neck;
use super::uper::UperHead;
use crate::layers::training::BatchNorm;

/// What tells the class of every pixel from a ViT's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// UperNet over the tokens of four blocks; the encoder is trained with it
    Uper,
    /// A batch norm and a linear layer over the last tokens of the encoder, which stays as it is: the cheap variant
    Linear,
}

/// What is between the ViT and the classifier.
#[derive(Clone, Debug)]
pub(super) enum Head {
    Linear(BatchNorm),
    Uper(Box<Pyramid>),
}

impl Head {
    pub fn kind(&self) -> HeadKind {
        match self {
            Self::Linear(_) => HeadKind::Linear,
            Self::Uper(_) => HeadKind::Uper,
        }
    }
}

/// UperNet's, and the auxiliary head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pyramid {
    pub neck: Neck,
    pub uper: UperHead,
    pub auxiliary: (ConvNorm, PixelClassifier),
}
