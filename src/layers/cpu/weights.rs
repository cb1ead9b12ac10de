//! Weights on the CPU, and reading them.

use crate::error::Result;
use crate::layers::{Backend, Load, Resolution};
use crate::ops::activation::Activation;
use crate::ops::conv;
use crate::ops::gemm::Operands;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::packed::Packed;
use crate::weights::SafeTensors;

/// Weights packed as products read them.
#[derive(Debug)]
pub struct Cpu;

/// Gain and shift over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub eps: f32,
}

/// A product and what is done to its results.
#[derive(Debug)]
pub struct Linear {
    pub w: Packed,
    pub activation: Activation,
}

/// The second convolution of a residual block, and the 1×1 convolution of its input if that is needed.
#[derive(Debug)]
pub struct Closing {
    pub conv: conv::Weights,
    pub shortcut: Option<Packed>,
}

impl Backend for Cpu {
    type Table = Vec<f32>;
    type LayerNorm = LayerNorm;
    type GroupNorm = GroupNorm;
    type Linear = Linear;
    type KeysValues = [Packed; 2];
    type Conv = conv::Weights;
    type Closing = Closing;
}

/// Bytes that the layers of a file hold in memory at most.
pub fn held(file: &SafeTensors, operands: Operands) -> u64 {
    let each = |shape: &[usize]| match *shape {
        [outputs, channels, 3, 3] => conv::Weights::bytes((channels, outputs), 1, operands),
        [..] if shape.len() > 1 => operands.bytes() * shape.iter().product::<usize>(),
        _ => 4 * shape.iter().product::<usize>(),
    };
    file.shapes().map(each).sum::<usize>() as u64
}

/// Reads layers from a file of weights.
#[derive(Debug)]
pub struct Reader<'a> {
    weights: &'a SafeTensors,
    operands: Operands,
    bytes: usize,
}

impl<'a> Reader<'a> {
    /// Layers of these operands.
    pub fn new(weights: &'a SafeTensors, operands: Operands) -> Self {
        Self { weights, operands, bytes: 0 }
    }

    /// Bytes of what was read so far, as it is held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.weights.f32(name, shape)?;
        self.bytes += 4 * tensor.len();
        Ok(tensor)
    }

    /// A vector.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.tensor(name, &[len])
    }

    /// A linear layer `k → n`, stored `[n, k]` or as a 1×1 convolution `[n, k, 1, 1]`.
    pub fn packed(&mut self, name: &str, (k, n): (usize, usize), bias: bool, operands: Operands) -> Result<Packed> {
        let w = self.weights.matrix(name, k, n)?;
        self.bytes += operands.bytes() * w.len();
        let bias = if bias { Some(self.vector(&format!("{name}.bias"), n)?) } else { None };
        Ok(Packed::from_out_in(&w, bias, n, k, operands))
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
            parts.push(self.packed(name, (inputs, each), bias, self.operands)?);
        }
        let w = match parts.len() {
            1 => parts.remove(0),
            _ => Packed::side_by_side(&parts.iter().collect::<Vec<_>>()),
        };
        Ok(Linear { w, activation })
    }

    fn keys_values(&mut self, [key, value]: [&str; 2], sizes: (usize, usize)) -> Result<[Packed; 2]> {
        Ok([self.packed(key, sizes, false, self.operands)?, self.packed(value, sizes, false, self.operands)?])
    }

    fn conv(&mut self, name: &str, (c, n): (usize, usize), resolution: Resolution) -> Result<conv::Weights> {
        let stride = if resolution == Resolution::Halved { 2 } else { 1 };
        let w = self.weights.f32(&format!("{name}.weight"), &[n, c, 3, 3])?;
        self.bytes += conv::Weights::bytes((c, n), stride, self.operands);
        Ok(conv::Weights::new(&w, Some(self.vector(&format!("{name}.bias"), n)?), (c, n), stride, self.operands))
    }

    fn closing(&mut self, name: &str, shortcut: &str, parts: &[usize], outputs: usize) -> Result<Closing> {
        let conv = self.conv(name, (outputs, outputs), Resolution::Same)?;
        let inputs = parts.iter().sum();
        let shortcut = if parts == [outputs] {
            None
        } else {
            Some(self.packed(shortcut, (inputs, outputs), true, self.operands)?)
        };
        Ok(Closing { conv, shortcut })
    }
}
