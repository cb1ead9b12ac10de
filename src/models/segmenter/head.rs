//! The heads there are.

use serde::{Deserialize, Serialize};

/// What tells the class of every pixel from a ViT's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// UperNet over the tokens of four blocks; the encoder is trained with it
    Uper,
    /// A batch norm and a linear layer over the last tokens of the encoder, which stays as it is: the cheap variant
    Linear,
}
