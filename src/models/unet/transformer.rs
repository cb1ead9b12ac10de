//! The spatial transformer of the UNet: self-attention over pixels, cross-attention to the caption, gated MLP.

use super::Config;
use super::architecture::TransformerAt;
use crate::error::Result;
use crate::layers::{Backend, Layers, Load, Slot, Tensor};
use crate::ops::activation::Activation;

/// Layer-norm epsilon inside the block, and group-norm epsilon before it: constants of diffusers, not in any config.
const LAYER_EPS: f64 = 1e-5;
const GROUP_EPS: f64 = 1e-6;

/// Group norm, projection in, one transformer block, projection out, residual.
#[derive(Debug)]
pub(super) struct Transformer<B: Backend> {
    /// Its place among all.
    index: usize,
    heads: usize,
    norm: B::GroupNorm,
    proj_in: B::Linear,
    norm1: B::LayerNorm,
    qkv: B::Linear,
    out1: B::Linear,
    norm2: B::LayerNorm,
    query: B::Linear,
    keys_values: B::KeysValues,
    out2: B::Linear,
    norm3: B::LayerNorm,
    gate: B::Linear,
    down: B::Linear,
    proj_out: B::Linear,
}

impl<B: Backend> Transformer<B> {
    /// Reads the transformer of `c` channels.
    pub(super) fn load(from: &mut impl Load<B>, at: &TransformerAt, c: usize, config: &Config) -> Result<Self> {
        let block = |rest: &str| at.block(rest);
        let [q, k, v] = ["q", "k", "v"].map(|part| block(&format!("attn1.to_{part}")));
        let [k2, v2] = ["k", "v"].map(|part| block(&format!("attn2.to_{part}")));
        let (none, square) = (Activation::None, (c, c));
        Ok(Self {
            index: at.index,
            heads: at.heads,
            norm: from.group_norm(&at.layer("norm"), c, config.groups, GROUP_EPS)?,
            proj_in: from.linear(&[&at.layer("proj_in")], square, true, none)?,
            norm1: from.layer_norm(&block("norm1"), c, LAYER_EPS)?,
            norm2: from.layer_norm(&block("norm2"), c, LAYER_EPS)?,
            norm3: from.layer_norm(&block("norm3"), c, LAYER_EPS)?,
            qkv: from.linear(&[&q, &k, &v], (c, 3 * c), false, none)?,
            out1: from.linear(&[&block("attn1.to_out.0")], square, true, none)?,
            query: from.linear(&[&block("attn2.to_q")], square, false, none)?,
            keys_values: from.keys_values([&k2, &v2], (config.context, c))?,
            out2: from.linear(&[&block("attn2.to_out.0")], square, true, none)?,
            gate: from.linear(&[&at.gate()], (c, 8 * c), true, Activation::Geglu)?,
            down: from.linear(&[&at.feed_forward_out()], (4 * c, c), true, none)?,
            proj_out: from.linear(&[&at.layer("proj_out")], square, true, none)?,
        })
    }

    /// Keys and values of one caption, from its text states `[T, context]`.
    pub(super) fn tell(&self, on: &mut impl Layers<B>) -> Result<()> {
        on.keys_values(&self.keys_values, self.index, self.heads)
    }

    /// `y` from `x`, which holds fewer rows while both guidance branches are the same.
    pub(super) fn forward(&self, on: &mut impl Layers<B>, y: Tensor, x: Tensor) -> Result<()> {
        let c = x.channels;
        let (before, after) = (Tensor { slot: Slot::Tokens, ..x }, Tensor { slot: Slot::Branches, ..y });
        let (qkv, queries) = (Tensor { slot: Slot::Wide, channels: 3 * c, ..x }, Tensor { slot: Slot::Wide, ..x });
        let attended = |like: Tensor| Tensor { slot: Slot::Attended, ..like };
        on.group_normed_linear(before, &self.proj_in, x, &self.norm)?;

        on.normed_linear(qkv, &self.qkv, before, &self.norm1)?;
        on.attention(attended(x), qkv, self.heads, false)?;
        on.linear(before, &self.out1, attended(x), Some(before))?;

        on.normed_linear(queries, &self.query, before, &self.norm2)?;
        on.cross_attention(attended(y), queries, self.index, self.heads)?;
        on.linear(after, &self.out2, attended(y), Some(before))?;

        on.gated_mlp(after, &self.norm3, &self.gate, &self.down)?;
        on.linear(y, &self.proj_out, after, Some(x))
    }
}
