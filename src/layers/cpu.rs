//! Layers on the CPU, in f32.

mod gated_mlp;

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::count::{Rooms, copy_of};
use super::{Backend, Layers, Load, Resolution, Slot, Tensor};
use crate::device::Plan;
use crate::error::Result;
use crate::ops::activation::{self, Activation};
use crate::ops::attention::{self, Context, Tokens};
use crate::ops::conv::{self, Shape};
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::layernorm;
use crate::ops::packed::{self, Packed, Start};
use crate::weights::SafeTensors;
use gated_mlp::GatedMlp;

/// Pixels per task of a copy side by side.
const PIXELS: usize = 256;

/// Weights in f32, packed as products read them.
#[derive(Debug)]
pub struct Cpu;

/// Gain and shift over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    eps: f32,
}

/// A product and what is done to its results.
#[derive(Debug)]
pub struct Linear {
    w: Packed,
    activation: Activation,
}

/// The second convolution of a residual block, and the 1×1 convolution of its input if that is needed.
#[derive(Debug)]
pub struct Closing {
    conv: Packed,
    shortcut: Option<Packed>,
}

impl Backend for Cpu {
    type Table = Vec<f32>;
    type LayerNorm = LayerNorm;
    type GroupNorm = GroupNorm;
    type Linear = Linear;
    type KeysValues = [Packed; 2];
    type Conv = Packed;
    type Closing = Closing;
}

/// Reads layers from a file of weights.
#[derive(Debug)]
pub struct Reader<'a> {
    weights: &'a SafeTensors,
    values: usize,
}

impl<'a> Reader<'a> {
    pub fn new(weights: &'a SafeTensors) -> Self {
        Self { weights, values: 0 }
    }

    /// Values read so far, and held.
    pub fn values(&self) -> usize {
        self.values
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.weights.f32(name, shape)?;
        self.values += tensor.len();
        Ok(tensor)
    }

    /// A vector.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.tensor(name, &[len])
    }

    /// A linear layer `k → n`, stored `[n, k]` or as a 1×1 convolution `[n, k, 1, 1]`.
    pub fn packed(&mut self, name: &str, (k, n): (usize, usize), bias: bool) -> Result<Packed> {
        let w = self.weights.matrix(name, k, n)?;
        self.values += w.len();
        let bias = if bias { Some(self.vector(&format!("{name}.bias"), n)?) } else { None };
        Ok(Packed::from_out_in(&w, bias, n, k))
    }

    fn affine(&mut self, name: &str, len: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.vector(&format!("{name}.weight"), len)?, self.vector(&format!("{name}.bias"), len)?))
    }
}

impl Load<Cpu> for Reader<'_> {
    fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<Vec<f32>> {
        self.tensor(name, &[rows, width])
    }

    fn layer_norm(&mut self, name: &str, width: usize, eps: f64) -> Result<LayerNorm> {
        let (gamma, beta) = self.affine(name, width)?;
        Ok(LayerNorm { gamma, beta, eps: eps as f32 })
    }

    fn group_norm(&mut self, name: &str, channels: usize, groups: usize, eps: f64) -> Result<GroupNorm> {
        let (gamma, beta) = self.affine(name, channels)?;
        Ok(GroupNorm { gamma, beta, groups, eps: eps as f32 })
    }

    fn linear(
        &mut self,
        names: &[&str],
        (inputs, outputs): (usize, usize),
        bias: bool,
        activation: Activation,
    ) -> Result<Linear> {
        let each = outputs / names.len();
        let mut parts = Vec::new();
        for name in names {
            parts.push(self.packed(name, (inputs, each), bias)?);
        }
        let w = match parts.len() {
            1 => parts.remove(0),
            _ => Packed::side_by_side(&parts.iter().collect::<Vec<_>>()),
        };
        Ok(Linear { w, activation })
    }

    fn keys_values(&mut self, [key, value]: [&str; 2], sizes: (usize, usize)) -> Result<[Packed; 2]> {
        Ok([self.packed(key, sizes, false)?, self.packed(value, sizes, false)?])
    }

    fn conv(&mut self, name: &str, (c, n): (usize, usize), _: Resolution) -> Result<Packed> {
        let w = self.tensor(&format!("{name}.weight"), &[n, c, 3, 3])?;
        Ok(Packed::from_conv3x3(&w, Some(self.vector(&format!("{name}.bias"), n)?), n, c))
    }

    fn closing(&mut self, name: &str, shortcut: &str, parts: &[usize], outputs: usize) -> Result<Closing> {
        let conv = self.conv(name, (outputs, outputs), Resolution::Same)?;
        let inputs = parts.iter().sum();
        let shortcut = if parts == [outputs] { None } else { Some(self.packed(shortcut, (inputs, outputs), true)?) };
        Ok(Closing { conv, shortcut })
    }
}

/// The slots of a network, each as large as the largest tensor that any call stores there.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<Slot, Vec<f32>>);

impl Memory {
    /// Takes what `rooms` asks for from the plan.
    pub fn take(plan: &mut Plan, group: &'static str, rooms: &Rooms) -> Self {
        let slot = |(slot, tensors): (Slot, _)| {
            let values = largest(tensors, |(rows, size, c): (usize, super::Size, usize)| rows * size.0 * size.1 * c);
            (slot, plan.f32(group, slot.name(), values))
        };
        Self(rooms.slots().map(slot).collect())
    }
}

pub(super) fn largest<T>(all: impl Iterator<Item = T>, of: impl Fn(T) -> usize) -> usize {
    all.map(of).max().unwrap_or(0)
}

/// Keys and values of one caption for every cross-attention of a network.
#[derive(Debug, Default)]
pub struct Caption(Vec<Context>);

/// A call on this thread or on all. What a network does not read may be left as [`Call::new`] makes it.
#[derive(Debug)]
pub struct Call<'a> {
    pub memory: &'a mut Memory,
    pub threads: Threads,
    /// [`Slot::Input`] and [`Slot::Output`].
    pub input: &'a [f32],
    pub output: &'a mut [f32],
    /// Of the texts to encode, one behind the other.
    pub ids: &'a [u32],
    /// A row of the table of timesteps.
    pub time: &'a [f32],
    /// How many adjacent rows share which caption, in order.
    pub captions: &'a [(usize, &'a Caption)],
    /// Keys and values that the call made.
    pub made: Caption,
}

impl<'a> Call<'a> {
    pub fn new(memory: &'a mut Memory, threads: Threads) -> Self {
        Self {
            memory,
            threads,
            input: &[],
            output: &mut [],
            ids: &[],
            time: &[],
            captions: &[],
            made: Caption::default(),
        }
    }

    /// The values of a tensor.
    pub fn read(&self, x: Tensor) -> &[f32] {
        let slot = match x.slot {
            Slot::Input => self.input,
            slot => &self.memory.0[&slot],
        };
        &slot[..x.values()]
    }

    /// Lends the values of `y` to `op`, which may read every other slot.
    fn write(&mut self, y: Tensor, op: impl FnOnce(&mut [f32], &Self)) {
        if y.slot == Slot::Output {
            let output = std::mem::take(&mut self.output);
            op(&mut output[..y.values()], self);
            self.output = output;
        } else {
            let mut values = self.memory.0.get_mut(&y.slot).map(std::mem::take).unwrap_or_default();
            op(&mut values[..y.values()], self);
            self.memory.0.insert(y.slot, values);
        }
    }

    /// What a norm gave of `x`.
    fn normed(&mut self, x: Tensor, norm: impl FnOnce(&mut [f32], &[f32], Threads)) -> Tensor {
        let y = Tensor { slot: Slot::Normed, ..x };
        self.write(y, |y, this| norm(y, this.read(x), this.threads));
        y
    }

    fn group_normed(&mut self, x: Tensor, norm: &GroupNorm, silu: bool) -> Tensor {
        self.normed(x, |y, values, threads| norm.forward(y, values, x.pixels(), silu, threads))
    }

    fn convolve(&mut self, y: Tensor, w: &Packed, x: Tensor, start: Start<'_>, shape: Shape) {
        self.write(y, |y, this| conv::forward(y, this.read(x), w, start, shape, this.threads));
    }
}

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

    fn conv(&mut self, y: Tensor, layer: &Packed, x: Tensor, resolution: Resolution) -> Result<()> {
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
        layer: &Packed,
        parts: &[Tensor],
        norm: &GroupNorm,
        time: Option<usize>,
    ) -> Result<()> {
        let normed = self.group_normed(parts[0], norm, true);
        let time = self.time.get(time.map_or(0..0, |offset| offset..offset + layer.n));
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
