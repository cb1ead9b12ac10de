//! The spatial transformer on CUDA.

use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::models::layers::cuda::{Layer, Map, Norm, Size, Weights};
use crate::models::unet::architecture::TransformerAt;
use crate::models::unet::transformer::{GROUP_EPS, LAYER_EPS};
use crate::ops::attention::Shape;
use crate::ops::attention::cuda::{self as attention, Heads};
use crate::ops::conv::cuda::{Activation, Source};
use crate::ops::groupnorm::cuda as groupnorm;
use crate::ops::layernorm::cuda as layernorm;

/// Group norm, projection in, one transformer block, projection out, residual.
#[derive(Clone, Debug)]
pub(super) struct Transformer<T> {
    /// Its place among all.
    pub(super) index: usize,
    heads: usize,
    channels: usize,
    norm: Norm,
    proj_in: Layer<T>,
    norms: [(View<f32>, View<f32>); 3],
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
        let block = |rest: &str| format!("{}.transformer_blocks.0.{rest}", at.name);
        let [q, k, v] = ["q", "k", "v"].map(|part| block(&format!("attn1.to_{part}")));
        let (k2, v2) = (block("attn2.to_k"), block("attn2.to_v"));
        Ok(Self {
            index: at.index,
            heads: at.heads,
            channels: c,
            norm: Norm::load(weights, &format!("{}.norm", at.name), c, groups, GROUP_EPS)?,
            proj_in: weights.linear(&[&format!("{}.proj_in", at.name)], c, c, true)?,
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
            gate: weights.activated(&block("ff.net.0.proj"), c, 8 * c, Activation::Geglu)?,
            down: weights.linear(&[&block("ff.net.2")], 4 * c, c, true)?,
            proj_out: weights.linear(&[&format!("{}.proj_out", at.name)], c, c, true)?,
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
        let (part, whole) = (valid * pixels * c, rows * pixels * c);
        let of = |view: View<T>, rows: usize, width: usize| Source { x: view.slice(0..rows * pixels * width), rows };
        let norm = |i: usize, y: View<T>, x: View<T>| {
            let (gamma, beta) = self.norms[i];
            layernorm::infer(gpu, y, x, gamma, beta, LAYER_EPS, x.len() / c, c)
        };
        let Scratch { normed, before, after, attended, wide, table } = *scratch;
        let (before, after) = (of(before, valid, c), of(after, rows, c));
        let normed_part = of(normed, valid, c);

        self.norm.forward(gpu, normed_part.x, &[x], valid, false, table)?;
        self.proj_in.linear(gpu, before.x, normed_part, None, (valid, pixels))?;
        norm(0, normed_part.x, before.x)?;
        let qkv = wide.slice(0..3 * part);
        self.qkv.linear(gpu, qkv, normed_part, None, (valid, pixels))?;
        let heads = |i: usize| Heads::part(qkv, i, 3, c);
        let shape = Shape { n: valid, queries: pixels, keys: pixels, heads: self.heads, head_dim, causal: false };
        attention::forward(gpu, attended.slice(0..part), heads(0), heads(1), heads(2), shape)?;
        self.out1.linear(gpu, before.x, of(attended, valid, c), Some(before), (valid, pixels))?;

        norm(1, normed_part.x, before.x)?;
        let queries = wide.slice(0..part);
        self.query.linear(gpu, queries, normed_part, None, (valid, pixels))?;
        let shape = Shape { n: rows, keys: tokens, ..shape };
        let queries = Heads { x: queries, stride: c };
        attention::cross(gpu, attended.slice(0..whole), queries, valid, contexts, which, shape)?;
        self.out2.linear(gpu, after.x, of(attended, rows, c), Some(before), (rows, pixels))?;

        let normed = of(normed, rows, c);
        norm(2, normed.x, after.x)?;
        let hidden = of(wide, rows, 4 * c);
        self.gate.linear(gpu, hidden.x, normed, None, (rows, pixels))?;
        self.down.linear(gpu, after.x, hidden, Some(after), (rows, pixels))?;
        self.proj_out.map(gpu, y, after, Some(x.source()))
    }
}
