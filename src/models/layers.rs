//! What the networks of a diffusion model share: reading layers by name, the residual block, and scratch memory.

#[cfg(cuda_kernels)]
pub mod cuda;

use crate::device::Plan;
use crate::error::Result;
use crate::ops::conv::{self, Shape};
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::packed::{Packed, Start, linear};
use crate::weights::SafeTensors;

/// Reads layers from a file of weights by their diffusers names.
#[derive(Clone, Copy, Debug)]
pub struct Loader<'a> {
    pub weights: &'a SafeTensors,
}

impl Loader<'_> {
    /// A vector.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.weights.f32(name, &[len])
    }

    /// A linear layer `k → n`, stored `[n, k]` or as a 1×1 convolution `[n, k, 1, 1]`.
    pub fn linear(&self, name: &str, k: usize, n: usize, bias: bool) -> Result<Packed> {
        let w = self.matrix(name, k, n)?;
        let bias = if bias { Some(self.vector(&format!("{name}.bias"), n)?) } else { None };
        Ok(Packed::from_out_in(&w, bias, n, k))
    }

    /// The weight `[n, k]` of a linear layer or of a 1×1 convolution.
    pub fn matrix(&self, name: &str, k: usize, n: usize) -> Result<Vec<f32>> {
        let weight = format!("{name}.weight");
        let convolution = self.weights.shape(&weight).is_some_and(|shape| shape.len() == 4);
        let shape: &[usize] = if convolution { &[n, k, 1, 1] } else { &[n, k] };
        self.weights.f32(&weight, shape)
    }

    /// A 3×3 convolution `c → n` with bias.
    pub fn conv(&self, name: &str, c: usize, n: usize) -> Result<Packed> {
        let w = self.weights.f32(&format!("{name}.weight"), &[n, c, 3, 3])?;
        Ok(Packed::from_conv3x3(&w, Some(self.vector(&format!("{name}.bias"), n)?), n, c))
    }

    /// A group norm of `c` channels.
    pub fn group_norm(&self, name: &str, c: usize, groups: usize, eps: f64) -> Result<GroupNorm> {
        let (gamma, beta) = self.affine(name, c)?;
        Ok(GroupNorm { gamma, beta, groups, eps: eps as f32 })
    }

    /// Weight and bias of a norm.
    pub fn affine(&self, name: &str, c: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.vector(&format!("{name}.weight"), c)?, self.vector(&format!("{name}.bias"), c)?))
    }
}

/// Height and width of a feature map.
pub type Size = (usize, usize);

/// Buffers that layers overwrite. Their lengths are the most that any layer of the network asks for.
#[derive(Debug, Default)]
pub struct Scratch {
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
    pub d: Vec<f32>,
}

/// Lengths of the buffers of a [`Scratch`], collected by walking the layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    pub a: usize,
    pub b: usize,
    pub c: usize,
    pub d: usize,
}

impl Need {
    /// At least this much of each.
    pub fn at_least(&mut self, a: usize, b: usize, c: usize, d: usize) {
        *self = Self { a: self.a.max(a), b: self.b.max(b), c: self.c.max(c), d: self.d.max(d) };
    }

    /// Takes the buffers from the plan.
    pub fn allocate(self, plan: &mut Plan, group: &'static str) -> Scratch {
        Scratch {
            a: plan.f32(group, "scratch a", self.a),
            b: plan.f32(group, "scratch b", self.b),
            c: plan.f32(group, "scratch c", self.c),
            d: plan.f32(group, "scratch d", self.d),
        }
    }
}

/// Residual block: `y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`.
#[derive(Clone, Debug)]
pub struct ResNet {
    norm1: GroupNorm,
    conv1: Packed,
    norm2: GroupNorm,
    conv2: Packed,
    shortcut: Option<Packed>,
}

impl ResNet {
    /// Reads the block `name` of `inputs → outputs` channels.
    pub fn load(
        load: Loader<'_>,
        name: &str,
        (inputs, outputs): (usize, usize),
        groups: usize,
        eps: f64,
    ) -> Result<Self> {
        let shortcut = format!("{name}.conv_shortcut");
        Ok(Self {
            norm1: load.group_norm(&format!("{name}.norm1"), inputs, groups, eps)?,
            conv1: load.conv(&format!("{name}.conv1"), inputs, outputs)?,
            norm2: load.group_norm(&format!("{name}.norm2"), outputs, groups, eps)?,
            conv2: load.conv(&format!("{name}.conv2"), outputs, outputs)?,
            shortcut: if inputs == outputs { None } else { Some(load.linear(&shortcut, inputs, outputs, true)?) },
        })
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.conv2.n
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        self.norm1.channels()
    }

    /// Values held.
    pub fn values(&self) -> usize {
        let norms = 2 * (self.norm1.channels() + self.norm2.channels());
        norms + self.conv1.values() + self.conv2.values() + self.shortcut.as_ref().map_or(0, Packed::values)
    }

    /// Counts the scratch of [`ResNet::forward`] for so many pixels in all.
    pub fn need(&self, need: &mut Need, pixels: usize) {
        need.at_least(pixels * self.inputs().max(self.outputs()), pixels * self.outputs(), 0, 0);
    }

    /// `y [N, H, W, outputs]` from `x [N, H, W, inputs]`. `time` replaces the first convolution's bias.
    pub fn forward(
        &self,
        y: &mut [f32],
        x: &[f32],
        (n, size): (usize, Size),
        time: Option<&[f32]>,
        scratch: &mut Scratch,
        threads: Threads,
    ) {
        let pixels = size.0 * size.1;
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let a = &mut scratch.a[..n * pixels * inputs];
        let b = &mut scratch.b[..n * pixels * outputs];
        self.norm1.forward(a, x, pixels, true, threads);
        let start = time.map_or(Start::Bias, Start::Row);
        conv::forward(b, a, &self.conv1, start, Shape::same(n, size.0, size.1, inputs), threads);
        let a = &mut scratch.a[..n * pixels * outputs];
        self.norm2.forward(a, b, pixels, true, threads);
        let start = match &self.shortcut {
            Some(shortcut) => {
                linear(y, x, shortcut, Start::Bias, threads);
                Start::Keep
            }
            None => Start::Residual(x),
        };
        conv::forward(y, a, &self.conv2, start, Shape::same(n, size.0, size.1, outputs), threads);
    }
}
