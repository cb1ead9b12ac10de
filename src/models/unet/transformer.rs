//! The spatial transformer of the UNet: self-attention over pixels, cross-attention to the caption, gated MLP.

use std::cell::Cell;

use rayon::prelude::*;

use crate::error::Result;
use crate::models::layers::{Loader, Need, Scratch};
use crate::ops::activation::geglu;
use crate::ops::attention::{self, Context, Tokens};
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::layernorm;
use crate::ops::packed::{Packed, Start, linear};

/// Layer-norm epsilon inside the block, and group-norm epsilon before it: constants of diffusers, not in any config.
pub(super) const LAYER_EPS: f32 = 1e-5;
pub(super) const GROUP_EPS: f64 = 1e-6;

/// Tokens per task of the MLP, whose hidden values stay in that core's cache.
const ROWS: usize = 128;

/// Group norm, projection in, one transformer block, projection out, residual.
#[derive(Debug)]
pub struct Transformer {
    /// Its place in a caption's [`super::TextContext`].
    pub index: usize,
    heads: usize,
    norm: GroupNorm,
    proj_in: Packed,
    norm1: (Vec<f32>, Vec<f32>),
    qkv: Packed,
    out1: Packed,
    norm2: (Vec<f32>, Vec<f32>),
    query: Packed,
    key: Packed,
    value: Packed,
    out2: Packed,
    norm3: (Vec<f32>, Vec<f32>),
    gate: Packed,
    down: Packed,
    proj_out: Packed,
}

thread_local! {
    static HIDDEN: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl Transformer {
    /// Reads the transformer `name` of `c` channels.
    pub fn load(
        load: Loader<'_>,
        name: &str,
        index: usize,
        (c, heads, context, groups): (usize, usize, usize, usize),
    ) -> Result<Self> {
        let block = |rest: &str| format!("{name}.transformer_blocks.0.{rest}");
        let plain = |rest: &str, k: usize| load.linear(&block(rest), k, c, false);
        let (q, k, v) = (plain("attn1.to_q", c)?, plain("attn1.to_k", c)?, plain("attn1.to_v", c)?);
        Ok(Self {
            index,
            heads,
            norm: load.group_norm(&format!("{name}.norm"), c, groups, GROUP_EPS)?,
            proj_in: load.linear(&format!("{name}.proj_in"), c, c, true)?,
            norm1: load.affine(&block("norm1"), c)?,
            qkv: Packed::side_by_side(&[&q, &k, &v]),
            out1: load.linear(&block("attn1.to_out.0"), c, c, true)?,
            norm2: load.affine(&block("norm2"), c)?,
            query: plain("attn2.to_q", c)?,
            key: plain("attn2.to_k", context)?,
            value: plain("attn2.to_v", context)?,
            out2: load.linear(&block("attn2.to_out.0"), c, c, true)?,
            norm3: load.affine(&block("norm3"), c)?,
            gate: load.linear(&block("ff.net.0.proj"), c, 8 * c, true)?,
            down: load.linear(&block("ff.net.2"), 4 * c, c, true)?,
            proj_out: load.linear(&format!("{name}.proj_out"), c, c, true)?,
        })
    }

    /// Channels.
    fn channels(&self) -> usize {
        self.proj_in.n
    }

    /// Values held.
    pub fn values(&self) -> usize {
        let layers = [&self.proj_in, &self.qkv, &self.out1, &self.query, &self.key, &self.value];
        let more = [&self.out2, &self.gate, &self.down, &self.proj_out];
        8 * self.channels() + layers.iter().chain(&more).map(|layer| layer.values()).sum::<usize>()
    }

    /// Counts the scratch of [`Transformer::forward`] for so many pixels in all.
    pub fn need(&self, need: &mut Need, pixels: usize) {
        let values = pixels * self.channels();
        need.at_least(values, values, 3 * values, values);
    }

    /// Keys and values of one caption, from its text states `[T, context]`.
    pub fn context(&self, text: &[f32]) -> Context {
        let tokens = text.len() / self.key.k;
        let c = self.channels();
        let (mut keys, mut values) = (vec![0.0; tokens * c], vec![0.0; tokens * c]);
        linear(&mut keys, text, &self.key, Start::Bias, Threads::One);
        linear(&mut values, text, &self.value, Start::Bias, Threads::One);
        Context::new(&keys, &values, self.heads, c / self.heads)
    }

    /// `x [rows, pixels, C]` in place. Only the first `valid` rows need hold values: up to the cross-attention both guidance
    /// branches of an image are the same, so they are computed once and copied there. `runs`: how many adjacent rows share which context.
    pub fn forward(
        &self,
        x: &mut [f32],
        (valid, rows, pixels): (usize, usize, usize),
        runs: &[(usize, &Context)],
        scratch: &mut Scratch,
        threads: Threads,
    ) {
        let (c, heads) = (self.channels(), self.heads);
        let (part, whole) = (valid * pixels * c, rows * pixels * c);
        let Scratch { a, b, c: wide, d } = scratch;
        let (a, b, d) = (&mut a[..whole], &mut b[..whole], &mut d[..whole]);

        self.norm.forward(&mut a[..part], &x[..part], pixels, false, threads);
        linear(&mut b[..part], &a[..part], &self.proj_in, Start::Bias, threads);
        layernorm::infer(&mut a[..part], &b[..part], &self.norm1.0, &self.norm1.1, LAYER_EPS, threads);
        let qkv = &mut wide[..3 * part];
        linear(qkv, &a[..part], &self.qkv, Start::Bias, threads);
        let shape =
            attention::Shape { n: valid, queries: pixels, keys: pixels, heads, head_dim: c / heads, causal: false };
        let of = |i: usize| Tokens { data: &qkv[i * c..], stride: 3 * c };
        attention::forward(&mut d[..part], of(0), of(1), of(2), shape, threads);
        linear(&mut b[..part], &d[..part], &self.out1, Start::Keep, threads);

        if valid < rows {
            x.copy_within(..whole - part, part);
            b.copy_within(..whole - part, part);
        }
        layernorm::infer(a, b, &self.norm2.0, &self.norm2.1, LAYER_EPS, threads);
        let q = &mut wide[..whole];
        linear(q, a, &self.query, Start::Bias, threads);
        let keys = runs[0].1.tokens(c);
        attention::cross(d, q, runs, attention::Shape { n: rows, keys, ..shape }, threads);
        linear(b, d, &self.out2, Start::Keep, threads);
        match threads {
            Threads::One => b.chunks_mut(ROWS * c).for_each(|b| self.mlp(b)),
            Threads::All => b.par_chunks_mut(ROWS * c).for_each(|b| self.mlp(b)),
        }
        linear(x, b, &self.proj_out, Start::Keep, threads);
    }

    /// `x += mlp(norm3(x))` for some tokens.
    fn mlp(&self, x: &mut [f32]) {
        let c = self.channels();
        let rows = x.len() / c;
        let mut hidden = HIDDEN.take();
        if hidden.len() < 12 * rows * c {
            hidden.resize(12 * rows * c, 0.0);
        }
        let (wide, narrow) = hidden[..12 * rows * c].split_at_mut(8 * rows * c);
        let normed = &mut narrow[..rows * c];
        layernorm::infer(normed, x, &self.norm3.0, &self.norm3.1, LAYER_EPS, Threads::One);
        linear(wide, normed, &self.gate, Start::Bias, Threads::One);
        geglu(narrow, wide, 4 * c);
        linear(x, narrow, &self.down, Start::Keep, Threads::One);
        HIDDEN.set(hidden);
    }
}
