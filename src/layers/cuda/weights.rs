//! The weights of a network as its kernels want them: one run of bytes, packed once, copied to the device in one go.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::cast_slice;

use super::Cuda;
use super::product::{Closing, Layer, Matrix, Shortcut};
use crate::device::cuda::{Arena, E4m3, Element, Gpu, Half, View};
use crate::error::Result;
use crate::layers::{Load, Resolution};
use crate::ops::activation::Activation;
use crate::ops::conv::cuda::{
    self as conv, Quantized, Segment, SegmentWeights, Taps, pack, pack_bias, pack_doubling, pack_e4m3,
};
use crate::ops::groupnorm::cuda::Norm;
use crate::ops::layernorm::cuda::Affine;
use crate::weights::SafeTensors;

/// Part of the name of cached weights: raise it when what is placed, in which order, or what is refused, changes.
const VERSION: u32 = 4;
/// Says how weights are packed.
pub const LAYOUT: u32 = VERSION << 16 | conv::LAYOUT;

/// Which layers read e4m3 values, by name.
#[derive(Clone, Copy, Debug, Default)]
pub enum Quantization<'a> {
    /// None.
    #[default]
    Off,
    /// None; the named ones keep the largest magnitude of what they read in these places, in order.
    Observe(&'a BTreeSet<String>, View<f32>),
    /// The named ones, of values up to this.
    Ranges(&'a BTreeMap<String, f32>),
}

/// Takes device memory for one tensor after the other and, if asked to, packs what goes there.
///
/// The same code lays a network out in a dry arena, in a real one whose bytes come from a cache, and in a real one
/// while packing.
#[derive(Debug)]
pub struct Weights<'a> {
    arena: &'a mut Arena,
    group: &'static str,
    start: u64,
    packing: Option<(&'a SafeTensors, Vec<u8>)>,
    quantization: Quantization<'a>,
}

impl<'a> Weights<'a> {
    /// Only places: the bytes come from elsewhere.
    pub fn place(arena: &'a mut Arena, group: &'static str, quantization: Quantization<'a>) -> Self {
        let start = arena.bytes();
        Self { arena, group, start, packing: None, quantization }
    }

    /// Places, and packs the tensors of `files`.
    pub fn pack(
        arena: &'a mut Arena,
        group: &'static str,
        quantization: Quantization<'a>,
        files: &'a SafeTensors,
    ) -> Self {
        Self { packing: Some((files, Vec::new())), ..Self::place(arena, group, quantization) }
    }

    /// The largest magnitude of what the layer reads, if that is to be e4m3 values.
    fn range(&self, name: &str) -> Option<f32> {
        let Quantization::Ranges(ranges) = self.quantization else { return None };
        ranges.get(name).copied()
    }

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        self.arena.bytes() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `bytes`, packed by an earlier run, to where the tensors are.
    ///
    /// # Panics
    /// If there are not [`Weights::len`] of them.
    pub fn upload(self, gpu: &Gpu, bytes: &[u8]) -> Result<()> {
        assert_eq!(bytes.len() as u64, self.len(), "weights");
        gpu.write(self.arena.range(self.start, bytes.len()), bytes)
    }

    /// Copies what was packed, and returns it.
    pub fn upload_packed(mut self, gpu: &Gpu) -> Result<Vec<u8>> {
        let mut bytes = self.packing.take().map(|(_, bytes)| bytes).unwrap_or_default();
        bytes.resize(self.len() as usize, 0);
        self.upload(gpu, &bytes)?;
        Ok(bytes)
    }

    /// A tensor of `len` elements, made by `make` when packing.
    fn tensor<E: Element>(
        &mut self,
        name: &str,
        len: usize,
        make: impl FnOnce(&SafeTensors) -> Result<Vec<E>>,
    ) -> Result<View<E>> {
        let at = (self.arena.bytes() - self.start) as usize;
        let view = self.arena.take(self.group, name, len);
        if let Some((files, bytes)) = &mut self.packing {
            let values = make(files)?;
            assert_eq!(values.len(), len, "{name}");
            bytes.resize(at, 0);
            bytes.extend_from_slice(cast_slice(&values));
        }
        Ok(view)
    }

    /// Weight and bias of a norm.
    fn affine(&mut self, name: &str, c: usize) -> Result<(View<f32>, View<f32>)> {
        let mut vector = |part: &str| {
            let name = format!("{name}.{part}");
            self.tensor(&name, c, |load| load.f32(&name, &[c]))
        };
        Ok((vector("weight")?, vector("bias")?))
    }

    /// Biases of several layers, one behind the other.
    fn bias(&mut self, names: &[&str], outputs: usize, gated: bool) -> Result<View<f32>> {
        let each = outputs / names.len();
        self.tensor(&format!("{}.bias", names[0]), outputs, |load| {
            let parts = names.iter().map(|name| load.f32(&format!("{name}.bias"), &[each]));
            Ok(pack_bias(&parts.collect::<Result<Vec<_>>>()?.concat(), gated))
        })
    }

    fn dense<T: Half>(
        &mut self,
        names: &[&str],
        k: usize,
        outputs: usize,
        bias: bool,
        activation: Activation,
    ) -> Result<Layer<T>> {
        let (each, gated) = (outputs / names.len(), activation == Activation::Geglu);
        let w = self.matrix(names[0], (k, 1, outputs), gated, |load| {
            let parts = names.iter().map(|name| load.matrix(name, k, each));
            Ok(parts.collect::<Result<Vec<_>>>()?.concat())
        })?;
        let bias = if bias { Some(self.bias(names, outputs, gated)?) } else { None };
        Ok(Layer { w, bias, outputs, segments: vec![Segment { channels: k, taps: Taps::One }], activation })
    }

    /// A 3×3 convolution `c → outputs`.
    fn convolution<T: Half>(&mut self, name: &str, c: usize, outputs: usize) -> Result<Layer<T>> {
        let weight = format!("{name}.weight");
        let w = self.matrix(name, (c, 9, outputs), false, |load| load.f32(&weight, &[outputs, c, 3, 3]))?;
        self.three(w, name, c, outputs)
    }

    /// A 3×3 convolution of an enlarged map, which is cheaper where the map is enlarged twofold.
    fn doubling<T: Half>(&mut self, name: &str, c: usize, outputs: usize) -> Result<Layer<T>> {
        let w = self.tensor(name, (9 + 16) * c * outputs, |load| {
            Ok(pack_doubling(&load.f32(&format!("{name}.weight"), &[outputs, c, 3, 3])?, c, outputs))
        })?;
        self.three(Matrix::Half(w, None), name, c, outputs)
    }

    fn three<T: Half>(&mut self, w: Matrix<T>, name: &str, c: usize, outputs: usize) -> Result<Layer<T>> {
        let bias = Some(self.bias(&[name], outputs, false)?);
        let segments = vec![Segment { channels: c, taps: Taps::SAME }];
        Ok(Layer { w, bias, outputs, segments, activation: Activation::None })
    }

    /// The 1×1 convolution of tensors of `parts` channels side by side.
    fn joined<T: Half>(&mut self, name: &str, parts: &[usize], outputs: usize) -> Result<Layer<T>> {
        let inputs: usize = parts.iter().sum();
        let w = self.tensor(name, inputs * outputs, |load| {
            Ok(pack(&side_by_side(&load.matrix(name, inputs, outputs)?, parts), outputs, false))
        })?;
        let bias = Some(self.bias(&[name], outputs, false)?);
        let segments = parts.iter().map(|&channels| Segment { channels, taps: Taps::One }).collect();
        Ok(Layer { w: Matrix::Half(w, None), bias, outputs, segments, activation: Activation::None })
    }

    /// Weights `[outputs, k, taps]` of a layer that reads one tensor, in the form the layer wants.
    fn matrix<T: Half>(
        &mut self,
        name: &str,
        (k, taps, outputs): (usize, usize, usize),
        gated: bool,
        read: impl FnOnce(&SafeTensors) -> Result<Vec<f32>>,
    ) -> Result<Matrix<T>> {
        fn segment(w: &[f32], k: usize, taps: usize) -> SegmentWeights<'_> {
            SegmentWeights { w, inputs: k, channels: 0..k, taps }
        }
        let len = k * taps * outputs;
        let Some(range) = self.range(name) else {
            let w = self.tensor(name, len, |load| Ok(pack(&[segment(&read(load)?, k, taps)], outputs, gated)))?;
            return Ok(Matrix::Half(w, self.observed(name)));
        };
        let (scale, mut rows) = (range / E4m3::MAX, Vec::new());
        let w = self.tensor(name, len, |load| {
            let packed;
            (packed, rows) = pack_e4m3(segment(&read(load)?, k, taps), outputs, gated);
            Ok(packed)
        })?;
        let scales =
            self.tensor(&format!("{name}, scales"), outputs, |_| Ok(rows.iter().map(|s| s * scale).collect()))?;
        Ok(Matrix::E4m3 { w: Quantized { w, scales }, inverse: 1.0 / scale })
    }

    /// Where the largest magnitude of what the layer reads is kept, if it is.
    fn observed(&self, name: &str) -> Option<View<f32>> {
        let Quantization::Observe(names, places) = self.quantization else { return None };
        let at = names.iter().position(|other| other == name)?;
        Some(places.slice(at..at + 1))
    }

    /// The second convolution of a residual block, to which the 1×1 convolution `shortcut` of the block's input, which
    /// is tensors of `parts` channels side by side, is added.
    fn conv_and_shortcut<T: Half>(
        &mut self,
        name: &str,
        shortcut: &str,
        parts: &[usize],
        c: usize,
    ) -> Result<Layer<T>> {
        let inputs: usize = parts.iter().sum();
        let w = self.tensor(name, (9 * c + inputs) * c, |load| {
            let w = load.f32(&format!("{name}.weight"), &[c, c, 3, 3])?;
            let direct = load.matrix(shortcut, inputs, c)?;
            let segments = [vec![SegmentWeights::conv(&w, c)], side_by_side(&direct, parts)].concat();
            Ok(pack::<T>(&segments, c, false))
        })?;
        let bias = self.tensor(&format!("{name}.bias"), c, |load| {
            let [a, b] = [name, shortcut].map(|layer| load.f32(&format!("{layer}.bias"), &[c]));
            let (a, b) = (a?, b?);
            Ok(a.iter().zip(b).map(|(a, b)| a + b).collect())
        })?;
        let mut segments = vec![Segment { channels: c, taps: Taps::SAME }];
        segments.extend(parts.iter().map(|&channels| Segment { channels, taps: Taps::One }));
        let w = Matrix::Half(w, self.observed(name));
        Ok(Layer { w, bias: Some(bias), outputs: c, segments, activation: Activation::None })
    }
}

impl<T: Half> Load<Cuda<T>> for Weights<'_> {
    /// In storage precision.
    fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<View<T>> {
        let make = |load: &SafeTensors| Ok(load.f32(name, &[rows, width])?.into_iter().map(T::round).collect());
        self.tensor(name, rows * width, make)
    }

    fn layer_norm(&mut self, name: &str, width: usize, eps: f64) -> Result<Affine> {
        let (gamma, beta) = self.affine(name, width)?;
        Ok(Affine { gamma, beta, eps: eps as f32 })
    }

    fn group_norm(&mut self, name: &str, channels: usize, groups: usize, eps: f64) -> Result<Norm> {
        let (gamma, beta) = self.affine(name, channels)?;
        Ok(Norm { gamma, beta, groups, eps: eps as f32 })
    }

    fn linear(
        &mut self,
        names: &[&str],
        (inputs, outputs): (usize, usize),
        bias: bool,
        activation: Activation,
    ) -> Result<Layer<T>> {
        self.dense(names, inputs, outputs, bias, activation)
    }

    fn keys_values(&mut self, names: [&str; 2], (inputs, outputs): (usize, usize)) -> Result<Layer<T>> {
        self.dense(&names, inputs, 2 * outputs, false, Activation::None)
    }

    fn conv(&mut self, name: &str, (c, outputs): (usize, usize), resolution: Resolution) -> Result<Layer<T>> {
        match resolution {
            Resolution::Same | Resolution::Halved => self.convolution(name, c, outputs),
            Resolution::Enlarged => self.doubling(name, c, outputs),
        }
    }

    fn closing(&mut self, name: &str, shortcut: &str, parts: &[usize], outputs: usize) -> Result<Closing<T>> {
        let (layer, shortcut) = if parts == [outputs] {
            (self.convolution(name, outputs, outputs)?, Shortcut::Residual)
        } else if self.range(name).is_some() {
            let shortcut = self.joined(shortcut, parts, outputs)?;
            (self.convolution(name, outputs, outputs)?, Shortcut::Before(shortcut))
        } else {
            (self.conv_and_shortcut(name, shortcut, parts, outputs)?, Shortcut::Joined)
        };
        Ok(Closing { layer, shortcut })
    }
}

/// The parts of a matrix that read tensors of `parts` channels side by side.
fn side_by_side<'a>(w: &'a [f32], parts: &[usize]) -> Vec<SegmentWeights<'a>> {
    let (inputs, mut first) = (parts.iter().sum(), 0);
    let segment = |&part: &usize| {
        first += part;
        SegmentWeights::linear(w, inputs, first - part..first)
    };
    parts.iter().map(segment).collect()
}
