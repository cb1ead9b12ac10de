//! Layers on CUDA: 16-bit tensors, e4m3 where a layer is so packed; everything is queued and nothing waited for, so
//! that a call can be recorded.

mod memory;
mod norm;
mod product;
mod weights;

use std::marker::PhantomData;

use super::{Backend, Layers, Resolution, Slot, Tensor};
use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::ops::attention::Shape;
use crate::ops::attention::cuda::{self as attention, Heads};
use crate::ops::conv::cuda::{Bias, Epilogue, Source, Taps};
use crate::ops::embed::cuda as embed;
use crate::ops::groupnorm::cuda::Norm;
use crate::ops::layernorm::cuda::Affine;
pub use memory::Memory;
use norm::{group_norm, layer_norm};
use product::{Closing, Input, Layer};
pub use weights::{LAYOUT, Quantization, Weights};

/// Weights packed for the kernels, in T.
#[derive(Debug)]
pub struct Cuda<T>(PhantomData<T>);

impl<T: Half> Backend for Cuda<T> {
    type Table = View<T>;
    type LayerNorm = Affine;
    type GroupNorm = Norm;
    type Linear = Layer<T>;
    type KeysValues = Layer<T>;
    type Conv = Layer<T>;
    type Closing = Closing<T>;
}

/// Keys and values of captions for every cross-attention: `[captions, tokens, 2C]` each.
#[derive(Clone, Debug)]
pub struct Captions<T> {
    layers: Vec<View<T>>,
    captions: usize,
    tokens: usize,
}

impl<T: Half> Captions<T> {
    /// Memory for `captions` captions of `tokens`, and cross-attentions of so many `channels`.
    pub fn take(arena: &mut Arena, channels: &[usize], captions: usize, tokens: usize) -> Self {
        let take =
            |(i, c): (usize, &usize)| arena.take("captions", format!("keys and values {i}"), captions * tokens * 2 * c);
        Self { layers: channels.iter().enumerate().map(take).collect(), captions, tokens }
    }
}

/// The captions of a call.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a, T> {
    pub captions: &'a Captions<T>,
    /// The caption of every row.
    pub which: View<u32>,
    /// Where keys and values that are made go.
    pub place: usize,
}

/// A table of timesteps.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// `[steps, width]`, of which row `step[0]` is used.
    pub table: View<f32>,
    pub width: usize,
    pub step: View<u32>,
}

/// A call. What a network does not read may be left as [`Call::new`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a, T> {
    pub gpu: &'a Gpu,
    pub memory: &'a Memory<T>,
    /// [`Slot::Input`] and [`Slot::Output`].
    pub input: Option<View<T>>,
    pub output: Option<View<f32>>,
    /// Of the texts to encode, `[texts, T]`; below the vocabulary.
    pub ids: Option<View<u32>>,
    pub times: Option<Times>,
    pub told: Option<Told<'a, T>>,
}

impl<'a, T: Half> Call<'a, T> {
    pub fn new(gpu: &'a Gpu, memory: &'a Memory<T>) -> Self {
        Self { gpu, memory, input: None, output: None, ids: None, times: None, told: None }
    }

    /// The values of a tensor.
    pub fn view(&self, x: Tensor) -> View<T> {
        let slot = match x.slot {
            Slot::Input => given(self.input, "input"),
            slot => self.memory.slot(slot),
        };
        slot.slice(0..x.values())
    }

    fn source(&self, x: Tensor) -> Source<T> {
        Source { x: self.view(x), rows: x.rows }
    }

    /// Where `layer` finds what a norm gives it of `x`.
    fn normed(&self, layer: &Layer<T>, x: Tensor) -> Input<T> {
        layer.input(self.memory.slot(Slot::Normed), x.rows, x.values())
    }

    fn group_normed(
        &self,
        layer: &Layer<T>,
        parts: &[Tensor],
        rows: usize,
        norm: Norm,
        silu: bool,
    ) -> Result<Input<T>> {
        let channels = parts.iter().map(|part| part.channels).sum();
        let input = self.normed(layer, Tensor { rows, channels, ..parts[0] });
        let maps: Vec<_> = parts.iter().map(|&part| self.memory.map(part)).collect();
        group_norm(self.gpu, input.x, &maps, rows, norm, silu, self.memory.table)?;
        Ok(input)
    }

    /// `y = layer(x) (+ residual)`.
    fn product(&self, y: Tensor, layer: &Layer<T>, x: Input<T>, residual: Option<Tensor>) -> Result<()> {
        let residual = residual.map(|residual| self.source(residual));
        if y.slot.is_map() {
            return layer.map(self.gpu, self.memory.map(y), x, residual);
        }
        layer.linear(self.gpu, self.view(y), x, residual, (y.rows, y.pixels()))
    }
}

/// What a network reads of its call.
fn given<V>(value: Option<V>, what: &str) -> V {
    value.unwrap_or_else(|| panic!("a call without {what}"))
}

impl<T: Half> Layers<Cuda<T>> for Call<'_, T> {
    fn embed(&mut self, y: Tensor, tokens: &View<T>, positions: &View<T>) -> Result<()> {
        let ids = given(self.ids, "token ids");
        embed::text(self.gpu, self.view(y), ids, *tokens, *positions, (y.rows, y.pixels(), y.channels))
    }

    fn layer_norm(&mut self, y: Tensor, x: Tensor, norm: &Affine) -> Result<()> {
        layer_norm(self.gpu, self.view(y).into(), self.view(x), *norm)
    }

    fn linear(&mut self, y: Tensor, layer: &Layer<T>, x: Tensor, residual: Option<Tensor>) -> Result<()> {
        self.product(y, layer, self.source(x).into(), residual)
    }

    fn normed_linear(&mut self, y: Tensor, layer: &Layer<T>, x: Tensor, norm: &Affine) -> Result<()> {
        let input = self.normed(layer, x);
        layer_norm(self.gpu, input.x, self.view(x), *norm)?;
        self.product(y, layer, input, None)
    }

    fn group_normed_linear(&mut self, y: Tensor, layer: &Layer<T>, x: Tensor, norm: &Norm) -> Result<()> {
        let input = self.group_normed(layer, &[x], x.rows, *norm, false)?;
        self.product(y, layer, input, None)
    }

    fn gated_mlp(&mut self, x: Tensor, norm: &Affine, gate: &Layer<T>, out: &Layer<T>) -> Result<()> {
        let input = self.normed(gate, x);
        layer_norm(self.gpu, input.x, self.view(x), *norm)?;
        let size = (x.rows, x.pixels());
        let hidden = out.input(self.memory.slot(Slot::Wide), x.rows, x.rows * x.pixels() * out.inputs());
        gate.linear(self.gpu, hidden.x, input, None, size)?;
        out.linear(self.gpu, self.view(x), hidden, Some(self.source(x)), size)
    }

    fn attention(&mut self, y: Tensor, qkv: Tensor, heads: usize, causal: bool) -> Result<()> {
        let (c, tokens) = (y.channels, y.pixels());
        let shape = Shape { n: y.rows, queries: tokens, keys: tokens, heads, head_dim: c / heads, causal };
        let part = |i: usize| Heads::part(self.view(qkv), i, 3, c);
        attention::forward(self.gpu, self.view(y), part(0), part(1), part(2), shape)
    }

    fn keys_values(&mut self, layer: &Layer<T>, index: usize, _: usize) -> Result<()> {
        let Told { captions, place, .. } = given(self.told, "captions");
        assert!(place < captions.captions, "caption {place} of {}", captions.captions);
        let all = captions.layers[index];
        let len = all.len() / captions.captions;
        let states = Source { x: given(self.input, "input"), rows: 1 };
        layer.linear(self.gpu, all.slice(place * len..(place + 1) * len), states.into(), None, (1, captions.tokens))
    }

    fn cross_attention(&mut self, y: Tensor, queries: Tensor, index: usize, heads: usize) -> Result<()> {
        let Told { captions, which, .. } = given(self.told, "captions");
        let c = y.channels;
        let (n, keys) = (y.rows, captions.tokens);
        let shape = Shape { n, queries: y.pixels(), keys, heads, head_dim: c / heads, causal: false };
        let rows = Heads { x: self.view(queries), stride: c };
        attention::cross(self.gpu, self.view(y), rows, queries.rows, captions.layers[index], which, shape)
    }

    fn side_by_side(&mut self, parts: &[Tensor], _: usize) -> Result<Vec<Tensor>> {
        Ok(parts.to_vec())
    }

    fn conv(&mut self, y: Tensor, layer: &Layer<T>, x: Tensor, resolution: Resolution) -> Result<()> {
        let taps = match resolution {
            Resolution::Same => return layer.map(self.gpu, self.memory.map(y), self.source(x).into(), None),
            Resolution::Halved => Taps::Three { stride: 2, enlarge: None },
            Resolution::Enlarged => Taps::Three { stride: 1, enlarge: Some(y.size) },
        };
        layer.resample(self.gpu, self.memory.map(y), self.memory.map(x), taps)
    }

    fn normed_conv(
        &mut self,
        y: Tensor,
        layer: &Layer<T>,
        parts: &[Tensor],
        norm: &Norm,
        time: Option<usize>,
    ) -> Result<()> {
        let input = self.group_normed(layer, parts, y.rows, *norm, true)?;
        if y.slot == Slot::Output {
            return layer.last(self.gpu, given(self.output, "output"), input, (y.rows, y.size));
        }
        let y = self.memory.map(y);
        let epilogue = layer.epilogue();
        let bias = time.map_or(epilogue.bias, |offset| {
            let Times { table, width, step } = given(self.times, "timesteps");
            Bias::Table { table, stride: width, offset, step }
        });
        let epilogue = Epilogue { bias, moments: Some(y.moments), ..epilogue };
        layer.run(self.gpu, y.x.into(), input, &[], epilogue, &layer.shape(y.rows, y.size))
    }

    fn closing_conv(&mut self, y: Tensor, layer: &Closing<T>, x: Tensor, norm: &Norm, parts: &[Tensor]) -> Result<()> {
        let input = self.group_normed(&layer.layer, &[x], y.rows, *norm, true)?;
        let parts: Vec<_> = parts.iter().map(|&part| self.memory.map(part)).collect();
        layer.forward(self.gpu, self.memory.map(y), input, &parts)
    }
}
