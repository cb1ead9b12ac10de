//! What tells the blocks of one network from those of another beside their sizes.

use super::variant::Variant;

/// Names of a block's tensors, and what it computes otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// What stands before the number of a block.
    pub(super) blocks: &'static str,
    pub(super) norm1: &'static str,
    /// Weight and bias of queries, keys and values.
    pub(super) qkv: [&'static str; 2],
    pub(super) proj: &'static str,
    pub(super) norm2: &'static str,
    pub(super) fc1: &'static str,
    pub(super) fc2: &'static str,
    /// Behind the last block.
    pub(super) norm: &'static str,
    /// Added to the variance of every norm.
    pub(super) eps: f32,
    /// Whether a token sees none behind it.
    pub(super) causal: bool,
    /// `x·sigmoid(1.702·x)` in place of the exact GELU.
    pub(super) quick_gelu: bool,
}

impl Style {
    /// timm's vision transformer as `variant` has it.
    pub(super) fn of(variant: Variant) -> Self {
        let Variant { norm_pre, quick_gelu, .. } = variant;
        Self { eps: if norm_pre { Self::TEXT.eps } else { Self::VIT.eps }, quick_gelu, ..Self::VIT }
    }

    /// The text tower of OpenAI's CLIP, or with the exact GELU that of open_clip.
    pub fn text(exact_gelu: bool) -> Self {
        Self { quick_gelu: !exact_gelu, ..Self::TEXT }
    }

    /// timm's vision transformer.
    pub const VIT: Self = Self {
        blocks: "blocks.",
        norm1: "norm1",
        qkv: ["attn.qkv.weight", "attn.qkv.bias"],
        proj: "attn.proj",
        norm2: "norm2",
        fc1: "mlp.fc1",
        fc2: "mlp.fc2",
        norm: "norm",
        eps: 1e-6,
        causal: false,
        quick_gelu: false,
    };

    /// The text tower of OpenAI's CLIP.
    pub(super) const TEXT: Self = Self {
        blocks: "transformer.resblocks.",
        norm1: "ln_1",
        qkv: ["attn.in_proj_weight", "attn.in_proj_bias"],
        proj: "attn.out_proj",
        norm2: "ln_2",
        fc1: "mlp.c_fc",
        fc2: "mlp.c_proj",
        norm: "ln_final",
        eps: 1e-5,
        causal: true,
        quick_gelu: true,
    };
}
