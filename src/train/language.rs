//! What a method with texts is given beside pictures: how captions become tokens, and the sizes of what reads them.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::models::text_tower::TextConfig;

/// What takes the features of pictures and texts to where they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// A matrix each, without bias
    Linear,
    /// A head each, as that of the contrastive loss
    Mlp,
}

/// Texts of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// As `--tokenizer` names it.
    pub tokenizer: String,
    /// Hash of what it holds, which is what a run belongs to.
    pub words: String,
    /// Whether any of a sample's `captions` is read, with equal chances, beside its caption.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_caption: bool,
    /// Entries of its vocabulary.
    pub vocabulary: usize,
    /// Tokens of a text, start and end among them.
    pub context: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    /// Values of what is compared, and how features become that.
    pub embed_dim: usize,
    pub projection: Projection,
    /// What the loss of pictures against texts is multiplied by beside another one.
    pub weight: f64,
}

impl Language {
    /// Sizes of the text tower.
    pub fn tower(&self) -> TextConfig {
        let Self { vocabulary, context, width, depth, heads, .. } = *self;
        TextConfig { vocabulary, context, width, depth, heads, exact_gelu: false }
    }

    /// # Errors
    /// Usage error naming the flag, what it was, and what is expected.
    pub fn validate(&self) -> Result<()> {
        let Self { context, width, depth, heads, embed_dim, weight, .. } = *self;
        for (flag, value, low, high) in [
            ("--context-length", context, 3, 4096),
            ("--text-width", width, 8, 16_384),
            ("--text-depth", depth, 1, 512),
            ("--embed-dim", embed_dim, 8, 65_536),
        ] {
            if !(low..=high).contains(&value) {
                bail!(Usage, "{flag} {value}: expected {low} to {high}");
            }
        }
        for (flag, value) in [("--text-width", width), ("--embed-dim", embed_dim)] {
            if !value.is_multiple_of(8) {
                bail!(Usage, "{flag} {value}: expected a multiple of 8");
            }
        }
        if heads == 0 || !width.is_multiple_of(heads) {
            bail!(Usage, "--text-heads {heads}: expected a divisor of --text-width {width}");
        }
        if !(weight.is_finite() && (0.001..=1000.0).contains(&weight)) {
            bail!(Usage, "--text-weight {weight}: expected 0.001 to 1000");
        }
        Ok(())
    }
}
