//! The spatial transformer on CUDA.

use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::models::layers::cuda::{Affine, Layer, Map, Norm, Size, Weights, layer_norm};
use crate::models::unet::architecture::TransformerAt;
use crate::models::unet::transformer::{GROUP_EPS, LAYER_EPS};
use crate::ops::attention::Shape;
use crate::ops::attention::cuda::{self as attention, Heads};
use crate::ops::conv::cuda::{Activation, Source};
use crate::ops::groupnorm::cuda as groupnorm;

/// Group norm, projection in, one transformer block, projection out, residual.
#[derive(Clone, Debug)]
pub(super) struct Transformer<T> {
    /// Its place among all.
    pub(super) index: usize,
    heads: usize,
    channels: usize,
    norm: Norm,
    proj_in: Layer<T>,
    norms: [Affine; 3],
    qkv: Layer<T>,
    out1: Layer<T>,
    query: Layer<T>,
    key_value: Layer<T>,
    out2: Layer<T>,
    gate: Layer<T>,
    down: Layer<T>,
    proj_out: Layer<T>,
}

/// Buffers of one transformer at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scratch<T> {
    /// Normalised tokens.
    normed: View<T>,
    /// The stream of tokens before and after the cross-attention, where the number of rows may double.
    before: View<T>,
    after: View<T>,
    /// What attention gives.
    attended: View<T>,
    /// Queries, keys and values; queries; hidden values of the MLP.
    wide: View<T>,
    table: View<f32>,
}

impl<T: Half> Scratch<T> {
    /// For every one of `maps` (rows, size, channels).
    pub(super) fn take(arena: &mut Arena, group: &'static str, maps: &[(usize, Size, usize)]) -> Self {
        let values = maps.iter().map(|&(rows, size, c)| rows * size.0 * size.1 * c).max().unwrap_or(0);
        let table = maps.iter().map(|&(rows, _, c)| groupnorm::table_len(rows, c)).max().unwrap_or(0);
        let mut take = |name: &str, len| arena.take(group, format!("transformer, {name}"), len);
        Self {
            normed: take("normalised", values),
            before: take("tokens", values),
            after: take("tokens of both branches", values),
            attended: take("attended", values),
            wide: take("wide", 4 * values),
            table: arena.take(group, "transformer, scales and shifts", table),
        }
    }
}

impl<T: Half> Transformer<T> {
    pub(super) fn load(
        weights: &mut Weights<'_>,
        at: &TransformerAt,
        (c, context, groups): (usize, usize, usize),
    ) -> Result<Self> {
        let block = |rest: &str| at.block(rest);
        let [q, k, v] = ["q", "k", "v"].map(|part| block(&format!("attn1.to_{part}")));
        let (k2, v2) = (block("attn2.to_k"), block("attn2.to_v"));
        Ok(Self {
            index: at.index,
            heads: at.heads,
            channels: c,
            norm: Norm::load(weights, &at.layer("norm"), c, groups, GROUP_EPS)?,
            proj_in: weights.linear(&[&at.layer("proj_in")], c, c, true)?,
            norms: [
                weights.affine(&block("norm1"), c)?,
                weights.affine(&block("norm2"), c)?,
                weights.affine(&block("norm3"), c)?,
            ],
            qkv: weights.linear(&[&q, &k, &v], c, 3 * c, false)?,
            out1: weights.linear(&[&block("attn1.to_out.0")], c, c, true)?,
            query: weights.linear(&[&block("attn2.to_q")], c, c, false)?,
            key_value: weights.linear(&[&k2, &v2], context, 2 * c, false)?,
            out2: weights.linear(&[&block("attn2.to_out.0")], c, c, true)?,
            gate: weights.activated(&at.gate(), c, 8 * c, Activation::Geglu)?,
            down: weights.linear(&[&at.feed_forward_out()], 4 * c, c, true)?,
            proj_out: weights.linear(&[&at.layer("proj_out")], c, c, true)?,
        })
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Keys and values `[tokens, 2C]` of one caption, from its text states `[tokens, context]`.
    pub(super) fn context(&self, gpu: &Gpu, kv: View<T>, states: View<T>) -> Result<()> {
        let tokens = kv.len() / (2 * self.channels);
        self.key_value.linear(gpu, kv, Source { x: states, rows: 1 }, None, (1, tokens))
    }

    /// `y` from `x`, which holds fewer rows while both guidance branches are the same. Row n of y attends to the caption `which[n]` of
    /// `contexts [captions, tokens, 2C]`.
    pub(super) fn forward(
        &self,
        gpu: &Gpu,
        y: Map<T>,
        x: Map<T>,
        (contexts, which, tokens): (View<T>, View<u32>, usize),
        scratch: &Scratch<T>,
    ) -> Result<()> {
        let (c, pixels, head_dim) = (self.channels, x.pixels(), self.channels / self.heads);
        let (valid, rows) = (x.rows, y.rows);
        let of = |view: View<T>, rows: usize| Source { x: view.slice(0..rows * pixels * c), rows };
        let Scratch { normed, before, after, attended, wide, table } = *scratch;
        let (before, after) = (of(before, valid), of(after, rows));
        // The layer norm number `i` of `x`, as `layer` reads it.
        let norm = |i: usize, layer: &Layer<T>, x: Source<T>| {
            let input = layer.input(normed, x.rows, x.rows * pixels * c);
            layer_norm(gpu, input.x, x.x, self.norms[i], LAYER_EPS).map(|()| input)
        };

        let input = self.proj_in.input(normed, valid, valid * pixels * c);
        self.norm.forward(gpu, input.x, &[x], valid, false, table)?;
        self.proj_in.linear(gpu, before.x, input, None, (valid, pixels))?;

        let qkv = wide.slice(0..3 * valid * pixels * c);
        self.qkv.linear(gpu, qkv, norm(0, &self.qkv, before)?, None, (valid, pixels))?;
        let heads = |i: usize| Heads::part(qkv, i, 3, c);
        let shape = Shape { n: valid, queries: pixels, keys: pixels, heads: self.heads, head_dim, causal: false };
        attention::forward(gpu, of(attended, valid).x, heads(0), heads(1), heads(2), shape)?;
        self.out1.linear(gpu, before.x, of(attended, valid), Some(before), (valid, pixels))?;

        let queries = of(wide, valid);
        self.query.linear(gpu, queries.x, norm(1, &self.query, before)?, None, (valid, pixels))?;
        let shape = Shape { n: rows, keys: tokens, ..shape };
        let queries = Heads { x: queries.x, stride: c };
        attention::cross(gpu, of(attended, rows).x, queries, valid, contexts, which, shape)?;
        self.out2.linear(gpu, after.x, of(attended, rows), Some(before), (rows, pixels))?;

        let hidden = self.down.input(wide, rows, rows * pixels * 4 * c);
        self.gate.linear(gpu, hidden.x, norm(2, &self.gate, after)?, None, (rows, pixels))?;
        self.down.linear(gpu, after.x, hidden, Some(after), (rows, pixels))?;
        self.proj_out.map(gpu, y, after, Some(x.source()))
    }
}
