//! Layers on the CPU, in f32.

mod call;
mod gated_mlp;
mod weights;

pub use call::{Call, Caption, Memory};
pub use weights::{Closing, Cpu, LayerNorm, Linear, Reader, held};

use rayon::prelude::*;

use self::gated_mlp::GatedMlp;
use super::count::copy_of;
use super::{Layers, Resolution, Slot, Tensor};
use crate::error::Result;
use crate::ops::activation::{self, Activation};
use crate::ops::attention::{self, Context, Tokens};
use crate::ops::conv::{self, Shape};
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::layernorm;
use crate::ops::packed::{self, Packed, Start};

/// Pixels per task of a copy side by side.
const PIXELS: usize = 256;

/// The convolution of `x` as it is.
fn same(x: Tensor) -> Shape {
    Shape::same(x.rows, x.size.0, x.size.1, x.channels)
}

impl Layers<Cpu> for Call<'_> {
    fn embed(&mut self, y: Tensor, tokens: &Vec<f32>, positions: &Vec<f32>) -> Result<()> {
        let d = y.channels;
        self.write(y, |y, this| {
            for (i, (y, &id)) in y.chunks_exact_mut(d).zip(this.ids).enumerate() {
                let (token, position) = (&tokens[id as usize * d..][..d], &positions[i * d % positions.len()..][..d]);
                y.iter_mut().zip(token).zip(position).for_each(|((y, t), p)| *y = t + p);
            }
        });
        Ok(())
    }

    fn layer_norm(&mut self, y: Tensor, x: Tensor, norm: &LayerNorm) -> Result<()> {
        let LayerNorm { gamma, beta, eps } = norm;
        self.write(y, |y, this| layernorm::infer(y, this.read(x), gamma, beta, *eps, this.threads));
        Ok(())
    }

    fn linear(&mut self, y: Tensor, layer: &Linear, x: Tensor, residual: Option<Tensor>) -> Result<()> {
        let Linear { w, activation } = layer;
        self.write(y, |out, this| {
            let (x, threads) = (this.read(x), this.threads);
            match residual {
                None => packed::linear(out, x, w, Start::Bias, threads),
                Some(same) if same.slot == y.slot => packed::linear(out, x, w, Start::Keep, threads),
                Some(residual) => {
                    let residual = this.read(residual);
                    let each = residual.len() / w.n * w.k;
                    for (y, x) in out.chunks_mut(residual.len()).zip(x.chunks(each)) {
                        packed::linear(y, x, w, Start::Residual(residual), threads);
                    }
                }
            }
            match activation {
                Activation::None => {}
                Activation::Silu => activation::silu(out),
                Activation::Gelu => activation::gelu(out),
                Activation::QuickGelu => activation::quick_gelu(out),
                Activation::Geglu => unreachable!("gated layers are called by gated_mlp alone"),
            }
        });
        Ok(())
    }

    fn normed_linear(&mut self, y: Tensor, layer: &Linear, x: Tensor, norm: &LayerNorm) -> Result<()> {
        let normed = Tensor { slot: Slot::Normed, ..x };
        self.layer_norm(normed, x, norm)?;
        self.linear(y, layer, normed, None)
    }

    fn group_normed_linear(&mut self, y: Tensor, layer: &Linear, x: Tensor, norm: &GroupNorm) -> Result<()> {
        let normed = self.group_normed(x, norm, false);
        self.linear(y, layer, normed, None)
    }

    fn gated_mlp(&mut self, x: Tensor, norm: &LayerNorm, gate: &Linear, out: &Linear) -> Result<()> {
        let LayerNorm { gamma, beta, eps } = norm;
        let mlp = GatedMlp { gamma, beta, eps: *eps, gate: &gate.w, out: &out.w };
        self.write(x, |x, this| gated_mlp::forward(x, mlp, this.threads));
        Ok(())
    }

    fn attention(&mut self, y: Tensor, qkv: Tensor, heads: usize, causal: bool) -> Result<()> {
        let (c, tokens) = (y.channels, y.pixels());
        let shape = attention::Shape { n: y.rows, queries: tokens, keys: tokens, heads, head_dim: c / heads, causal };
        self.write(y, |y, this| {
            let qkv = this.read(qkv);
            let part = |i: usize| Tokens { data: &qkv[i * c..], stride: 3 * c };
            attention::forward(y, part(0), part(1), part(2), shape, this.threads);
        });
        Ok(())
    }

    fn keys_values(&mut self, [key, value]: &[Packed; 2], index: usize, heads: usize) -> Result<()> {
        assert_eq!(self.made.0.len(), index, "keys and values out of order");
        let c = key.n;
        let tokens = self.input.len() / key.k;
        let (mut keys, mut values) = (vec![0.0; tokens * c], vec![0.0; tokens * c]);
        packed::linear(&mut keys, self.input, key, Start::Bias, self.threads);
        packed::linear(&mut values, self.input, value, Start::Bias, self.threads);
        self.made.0.push(Context::new(&keys, &values, heads, c / heads));
        Ok(())
    }

    fn cross_attention(&mut self, y: Tensor, queries: Tensor, index: usize, heads: usize) -> Result<()> {
        let (c, all) = (y.channels, Tensor { rows: y.rows, ..queries });
        if queries.rows < y.rows {
            self.write(all, |values, _| repeat(values, queries.values()));
        }
        let runs: Vec<(usize, &Context)> =
            self.captions.iter().map(|&(rows, caption)| (rows, &caption.0[index])).collect();
        let keys = runs.first().map_or(0, |run| run.1.tokens(c));
        let shape =
            attention::Shape { n: y.rows, queries: y.pixels(), keys, heads, head_dim: c / heads, causal: false };
        self.write(y, |y, this| attention::cross(y, this.read(all), &runs, shape, this.threads));
        Ok(())
    }

    fn side_by_side(&mut self, parts: &[Tensor], rows: usize) -> Result<Vec<Tensor>> {
        let Some(y) = copy_of(parts, rows) else { return Ok(parts.to_vec()) };
        self.write(y, |y, this| {
            let parts: Vec<(&[f32], usize)> = parts.iter().map(|&part| (this.read(part), part.channels)).collect();
            join(y, &parts, this.threads);
        });
        Ok(vec![y])
    }

    fn conv(&mut self, y: Tensor, layer: &conv::Weights, x: Tensor, resolution: Resolution) -> Result<()> {
        let shape = match resolution {
            Resolution::Same => same(x),
            Resolution::Halved => Shape { stride: 2, ..same(x) },
            Resolution::Enlarged => Shape { enlarge: Some(y.size), ..same(x) },
        };
        self.convolve(y, layer, x, Start::Bias, shape);
        Ok(())
    }

    fn normed_conv(
        &mut self,
        y: Tensor,
        layer: &conv::Weights,
        parts: &[Tensor],
        norm: &GroupNorm,
        time: Option<usize>,
    ) -> Result<()> {
        let normed = self.group_normed(parts[0], norm, true);
        let time = self.time.get(time.map_or(0..0, |offset| offset..offset + layer.outputs));
        let start = time.filter(|row| !row.is_empty()).map_or(Start::Bias, Start::Row);
        self.convolve(y, layer, normed, start, same(normed));
        Ok(())
    }

    fn closing_conv(
        &mut self,
        y: Tensor,
        layer: &Closing,
        x: Tensor,
        norm: &GroupNorm,
        parts: &[Tensor],
    ) -> Result<()> {
        let normed = self.group_normed(x, norm, true);
        let input = parts[0];
        self.write(y, |y, this| {
            let (input, threads) = (this.read(input), this.threads);
            let start = match &layer.shortcut {
                Some(shortcut) => {
                    packed::linear(y, input, shortcut, Start::Bias, threads);
                    Start::Keep
                }
                None => Start::Residual(input),
            };
            conv::forward(y, this.read(normed), &layer.conv, start, same(normed), threads);
        });
        Ok(())
    }
}

/// Copies the first `len` values behind themselves until there is no more room.
fn repeat(values: &mut [f32], len: usize) {
    for at in (len..values.len()).step_by(len) {
        values.copy_within(..len.min(values.len() - at), at);
    }
}

/// `y [rows, H, W, ΣC]` from tensors and their channels, the rows of which repeat.
fn join(y: &mut [f32], parts: &[(&[f32], usize)], threads: Threads) {
    let wide: usize = parts.iter().map(|part| part.1).sum();
    let some = |y: &mut [f32], first: usize| {
        let mut column = 0;
        for &(x, c) in parts {
            let pixels = x.len() / c;
            for (i, y) in y.chunks_exact_mut(wide).enumerate() {
                let at = (first + i) % pixels * c;
                y[column..column + c].copy_from_slice(&x[at..at + c]);
            }
            column += c;
        }
    };
    match threads {
        Threads::One => some(y, 0),
        Threads::All => {
            y.par_chunks_mut(PIXELS * wide).enumerate().for_each(|(i, y)| some(y, i * PIXELS));
        }
    }
}
