//! What a classifier reads of a ViT.

use serde::{Deserialize, Serialize};

/// Which tokens are classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// The mean of the patch tokens, then a new norm (MAE's)
    Mean,
    /// The class token behind the encoder's norm
    Class,
}
