//! What ViTs of other authors have that timm's plain one does not.

use serde::{Deserialize, Serialize};

/// How a ViT differs from timm's `vit_*_patch16_224`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Variant {
    /// Tokens between the class token and the patches (DINOv2's register tokens, arXiv 2309.16588); they have no
    /// positions.
    pub registers: usize,
    /// Whether there is a norm before the blocks, and ε is 1e-5 in all norms, as in CLIP's image towers (arXiv
    /// 2103.00020).
    pub norm_pre: bool,
    /// `x·sigmoid(1.702·x)` in the place of the exact GELU, as OpenAI's CLIP has it.
    pub quick_gelu: bool,
}

impl Variant {
    /// Whether it is timm's plain ViT.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What it has, for people: `4 registers, a norm before the blocks`.
    pub fn describe(&self) -> String {
        let Self { registers, norm_pre, quick_gelu } = *self;
        let parts = [
            (registers > 0).then(|| format!("{registers} registers")),
            norm_pre.then(|| "a norm before the blocks".to_owned()),
            quick_gelu.then(|| "quick GELU".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
