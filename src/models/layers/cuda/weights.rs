//! The weights of a network as its kernels want them: one run of bytes, packed once, copied to the device in one go.

use bytemuck::cast_slice;

use super::Layer;
use crate::device::cuda::{Arena, Element, Gpu, Half, View};
use crate::error::Result;
use crate::models::layers::Loader;
use crate::ops::conv::cuda::{self as conv, Activation, Segment, SegmentWeights, Taps, pack, pack_bias, pack_doubling};
use crate::weights::SafeTensors;

/// Part of the name of cached weights: raise it when what is placed, or in which order, changes.
const VERSION: u32 = 2;
/// Says how weights are packed.
pub const LAYOUT: u32 = VERSION << 16 | conv::LAYOUT;

/// Takes device memory for one tensor after the other and, if asked to, packs what goes there.
///
/// The same code lays a network out in a dry arena, in a real one whose bytes come from a cache, and in a real one while packing.
#[derive(Debug)]
pub struct Weights<'a> {
    arena: &'a mut Arena,
    group: &'static str,
    start: u64,
    packing: Option<(Loader<'a>, Vec<u8>)>,
}

impl<'a> Weights<'a> {
    /// Only places: the bytes come from elsewhere.
    pub fn place(arena: &'a mut Arena, group: &'static str) -> Self {
        let start = arena.bytes();
        Self { arena, group, start, packing: None }
    }

    /// Places, and packs the tensors of `files`.
    pub fn pack(arena: &'a mut Arena, group: &'static str, files: &'a SafeTensors) -> Self {
        let packing = Some((Loader { weights: files }, Vec::new()));
        Self { packing, ..Self::place(arena, group) }
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
        make: impl FnOnce(Loader<'_>) -> Result<Vec<E>>,
    ) -> Result<View<E>> {
        let at = (self.arena.bytes() - self.start) as usize;
        let view = self.arena.take(self.group, name, len);
        if let Some((loader, bytes)) = &mut self.packing {
            let values = make(*loader)?;
            assert_eq!(values.len(), len, "{name}");
            bytes.resize(at, 0);
            bytes.extend_from_slice(cast_slice(&values));
        }
        Ok(view)
    }

    /// A table of rows in storage precision.
    pub fn table<T: Half>(&mut self, name: &str, rows: usize, width: usize) -> Result<View<T>> {
        self.tensor(name, rows * width, |load| {
            Ok(load.weights.f32(name, &[rows, width])?.into_iter().map(T::round).collect())
        })
    }

    /// Weight and bias of a norm.
    pub fn affine(&mut self, name: &str, c: usize) -> Result<(View<f32>, View<f32>)> {
        let mut vector = |part: &str| {
            let name = format!("{name}.{part}");
            self.tensor(&name, c, |load| load.vector(&name, c))
        };
        Ok((vector("weight")?, vector("bias")?))
    }

    /// Biases of several layers, one behind the other.
    fn bias(&mut self, names: &[&str], outputs: usize, gated: bool) -> Result<View<f32>> {
        let each = outputs / names.len();
        self.tensor(&format!("{}.bias", names[0]), outputs, |load| {
            let parts = names.iter().map(|name| load.vector(&format!("{name}.bias"), each));
            Ok(pack_bias(&parts.collect::<Result<Vec<_>>>()?.concat(), gated))
        })
    }

    /// Linear layers `k → outputs` in all of the same input, their outputs side by side.
    pub fn linear<T: Half>(&mut self, names: &[&str], k: usize, outputs: usize, bias: bool) -> Result<Layer<T>> {
        self.dense(names, k, outputs, bias, Activation::None)
    }

    /// A linear layer `k → outputs` followed by a function of each value.
    pub fn activated<T: Half>(&mut self, name: &str, k: usize, outputs: usize, by: Activation) -> Result<Layer<T>> {
        self.dense(&[name], k, outputs, true, by)
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
        let w = self.tensor(names[0], k * outputs, |load| {
            let parts = names.iter().map(|name| load.matrix(name, k, each));
            let w = parts.collect::<Result<Vec<_>>>()?.concat();
            Ok(pack::<T>(&[SegmentWeights::linear(&w, k, 0..k)], outputs, gated))
        })?;
        let bias = if bias { Some(self.bias(names, outputs, gated)?) } else { None };
        Ok(Layer { w, bias, outputs, segments: vec![Segment { channels: k, taps: Taps::One }], activation })
    }

    /// A 3×3 convolution `c → outputs`.
    pub fn conv<T: Half>(&mut self, name: &str, c: usize, outputs: usize) -> Result<Layer<T>> {
        let direct = |w: &[f32]| pack::<T>(&[SegmentWeights::conv(w, c)], outputs, false);
        self.conv_packed(name, (c, outputs), 9, direct)
    }

    /// A 3×3 convolution of an enlarged map, which is cheaper where the map is enlarged twofold.
    pub fn upsampler<T: Half>(&mut self, name: &str, c: usize) -> Result<Layer<T>> {
        self.conv_packed(name, (c, c), 9 + 16, |w| pack_doubling::<T>(w, c, c))
    }

    /// A 3×3 convolution whose packed weights hold `taps` values for each pair of channels.
    fn conv_packed<T: Half>(
        &mut self,
        name: &str,
        (c, outputs): (usize, usize),
        taps: usize,
        pack: impl FnOnce(&[f32]) -> Vec<T>,
    ) -> Result<Layer<T>> {
        let w = self.tensor(name, taps * c * outputs, |load| {
            Ok(pack(&load.weights.f32(&format!("{name}.weight"), &[outputs, c, 3, 3])?))
        })?;
        let bias = Some(self.bias(&[name], outputs, false)?);
        let segments = vec![Segment { channels: c, taps: Taps::SAME }];
        Ok(Layer { w, bias, outputs, segments, activation: Activation::None })
    }

    /// The second convolution of a residual block, to which the 1×1 convolution `shortcut` of the block's input, which is tensors of `parts`
    /// channels side by side, is added; without parts there is no shortcut.
    pub fn conv_and_shortcut<T: Half>(
        &mut self,
        name: &str,
        shortcut: &str,
        parts: &[usize],
        c: usize,
    ) -> Result<Layer<T>> {
        if parts.is_empty() {
            return self.conv(name, c, c);
        }
        let inputs: usize = parts.iter().sum();
        let w = self.tensor(name, (9 * c + inputs) * c, |load| {
            let w = load.weights.f32(&format!("{name}.weight"), &[c, c, 3, 3])?;
            let direct = load.matrix(shortcut, inputs, c)?;
            let mut segments = vec![SegmentWeights::conv(&w, c)];
            let mut first = 0;
            for &part in parts {
                segments.push(SegmentWeights::linear(&direct, inputs, first..first + part));
                first += part;
            }
            Ok(pack::<T>(&segments, c, false))
        })?;
        let bias = self.tensor(&format!("{name}.bias"), c, |load| {
            let (a, b) = (load.vector(&format!("{name}.bias"), c)?, load.vector(&format!("{shortcut}.bias"), c)?);
            Ok(a.iter().zip(b).map(|(a, b)| a + b).collect())
        })?;
        let mut segments = vec![Segment { channels: c, taps: Taps::SAME }];
        segments.extend(parts.iter().map(|&channels| Segment { channels, taps: Taps::One }));
        Ok(Layer { w, bias: Some(bias), outputs: c, segments, activation: Activation::None })
    }
}
