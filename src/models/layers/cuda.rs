//! The same on CUDA: feature maps that carry what the next group norm wants to know of them, layers packed for the kernels, the
//! residual block.

mod layer;
mod weights;

use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::ops::conv::cuda::{Bias, Epilogue, Source, Stored};
use crate::ops::groupnorm::cuda as groupnorm;
use crate::ops::layernorm::cuda as layernorm;

pub use super::Size;
pub use layer::Layer;
pub use weights::{LAYOUT, Quantization, Weights};

/// `x [rows, H, W, channels]` and its moments.
#[derive(Clone, Copy, Debug)]
pub struct Map<T> {
    pub x: View<T>,
    pub moments: View<f32>,
    pub rows: usize,
    pub size: Size,
    pub channels: usize,
}

impl<T: Half> Map<T> {
    pub fn pixels(self) -> usize {
        self.size.0 * self.size.1
    }

    /// The first `rows` images.
    pub fn first(self, rows: usize) -> Self {
        let (x, moments) = (self.x.len() / self.rows * rows, self.moments.len() / self.rows * rows);
        Self { x: self.x.slice(0..x), moments: self.moments.slice(0..moments), rows, ..self }
    }

    pub fn source(self) -> Source<T> {
        Source { x: self.x, rows: self.rows }
    }
}

/// Memory for one feature map after the other.
#[derive(Clone, Copy, Debug)]
pub struct Space<T> {
    x: View<T>,
    moments: View<f32>,
}

impl<T: Half> Space<T> {
    /// The same memory for values of the other 16-bit type.
    pub fn cast<U: Half>(&self) -> Space<U> {
        Space { x: self.x.cast(), moments: self.moments }
    }

    /// Room for every one of `maps` (rows, size, channels).
    pub fn take(
        arena: &mut Arena,
        group: &'static str,
        name: &str,
        maps: impl Iterator<Item = (usize, Size, usize)> + Clone,
    ) -> Self {
        let most = |of: fn((usize, Size, usize)) -> usize| maps.clone().map(of).max().unwrap_or(0);
        let moments = |(rows, size, c): (usize, Size, usize)| groupnorm::moments_len(rows, size.0 * size.1, c);
        Self {
            x: arena.take(group, name, most(|(rows, size, c)| rows * size.0 * size.1 * c)),
            moments: arena.take(group, format!("{name}, moments"), most(moments)),
        }
    }

    /// A map in this memory; what was there is lost.
    pub fn map(self, rows: usize, size: Size, channels: usize) -> Map<T> {
        let pixels = size.0 * size.1;
        Map {
            x: self.x.slice(0..rows * pixels * channels),
            moments: self.moments.slice(0..groupnorm::moments_len(rows, pixels, channels)),
            rows,
            size,
            channels,
        }
    }
}

/// A group norm.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    gamma: View<f32>,
    beta: View<f32>,
    groups: usize,
    eps: f32,
}

impl Norm {
    pub fn load(weights: &mut Weights<'_>, name: &str, c: usize, groups: usize, eps: f64) -> Result<Self> {
        let (gamma, beta) = weights.affine(name, c)?;
        Ok(Self { gamma, beta, groups, eps: eps as f32 })
    }

    pub fn channels(self) -> usize {
        self.gamma.len()
    }

    /// `y [rows, pixels, channels]`: the norm of `parts` side by side, then SiLU if `silu`. Images of a part that has fewer than `rows` repeat.
    pub fn forward<T: Half>(
        self,
        gpu: &Gpu,
        y: impl Into<Stored<T>>,
        parts: &[Map<T>],
        rows: usize,
        silu: bool,
        table: View<f32>,
    ) -> Result<()> {
        let pixels = parts[0].pixels();
        let table = table.slice(0..groupnorm::table_len(rows, self.channels()));
        let moments: Vec<_> = parts.iter().map(|part| (part.moments, part.rows, part.channels)).collect();
        let values: Vec<_> = parts.iter().map(|part| (part.x, part.rows, part.channels)).collect();
        groupnorm::scale_shift(gpu, table, &moments, self.gamma, self.beta, self.groups, self.eps, rows, pixels)?;
        match y.into() {
            Stored::Half(y) => groupnorm::apply(gpu, y, &values, table, silu, rows, pixels),
            Stored::E4m3 { y, inverse } => groupnorm::apply_e4m3(gpu, y, inverse, &values, table, silu, rows, pixels),
        }
    }
}

/// Gain and shift of a layer norm over all channels.
pub type Affine = (View<f32>, View<f32>);

/// `y`: the layer norm of the rows of `x`.
pub fn layer_norm<T: Half>(gpu: &Gpu, y: Stored<T>, x: View<T>, (gamma, beta): Affine, eps: f32) -> Result<()> {
    let c = gamma.len();
    let rows = x.len() / c;
    match y {
        Stored::Half(y) => layernorm::infer(gpu, y, x, gamma, beta, eps, rows, c),
        Stored::E4m3 { y, inverse } => layernorm::infer_e4m3(gpu, y, inverse, x, gamma, beta, eps, rows, c),
    }
}

/// Buffers that layers overwrite.
#[derive(Clone, Copy, Debug)]
pub struct Scratch<T> {
    /// Inputs of convolutions and of linear layers, normalised.
    pub normed: View<T>,
    /// What lies between the convolutions of a residual block.
    pub between: Space<T>,
    /// Scale and shift of a norm.
    pub table: View<f32>,
}

impl<T: Half> Scratch<T> {
    /// The same memory for values of the other 16-bit type.
    pub fn cast<U: Half>(&self) -> Scratch<U> {
        Scratch { normed: self.normed.cast(), between: self.between.cast(), table: self.table }
    }

    pub fn take(arena: &mut Arena, group: &'static str, blocks: &[(usize, Size, ResNetShape)]) -> Self {
        let normed =
            |(rows, size, shape): &(usize, Size, ResNetShape)| rows * size.0 * size.1 * shape.inputs.max(shape.outputs);
        let table = |(rows, _, shape): &(usize, Size, ResNetShape)| {
            groupnorm::table_len(*rows, shape.inputs.max(shape.outputs))
        };
        Self {
            normed: arena.take(group, "normalised", blocks.iter().map(normed).max().unwrap_or(0)),
            between: Space::take(
                arena,
                group,
                "between convolutions",
                blocks.iter().map(|&(rows, size, shape)| (rows, size, shape.outputs)),
            ),
            table: arena.take(group, "scales and shifts", blocks.iter().map(table).max().unwrap_or(0)),
        }
    }
}

/// Channels of a residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetShape {
    pub inputs: usize,
    pub outputs: usize,
}

/// Residual block: `y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`.
#[derive(Clone, Debug)]
pub struct ResNet<T> {
    norm1: Norm,
    conv1: Layer<T>,
    norm2: Norm,
    conv2: Layer<T>,
    shortcut: Shortcut<T>,
}

/// How a block's input is added to what its convolutions give.
#[derive(Clone, Debug)]
enum Shortcut<T> {
    /// As it is.
    Residual,
    /// As more of the second convolution's K.
    Joined,
    /// By a layer before the second convolution, which is in e4m3.
    Before(Layer<T>),
}

impl<T: Half> ResNet<T> {
    /// Reads the block `name`, whose input is `parts` side by side.
    pub fn load(
        weights: &mut Weights<'_>,
        name: &str,
        (parts, outputs): (&[usize], usize),
        groups: usize,
        eps: f64,
    ) -> Result<Self> {
        let inputs: usize = parts.iter().sum();
        let (second, direct) = (format!("{name}.conv2"), format!("{name}.conv_shortcut"));
        let norm1 = Norm::load(weights, &format!("{name}.norm1"), inputs, groups, eps)?;
        let conv1 = weights.conv(&format!("{name}.conv1"), inputs, outputs)?;
        let norm2 = Norm::load(weights, &format!("{name}.norm2"), outputs, groups, eps)?;
        let (conv2, shortcut) = if parts == [outputs] {
            (weights.conv(&second, outputs, outputs)?, Shortcut::Residual)
        } else if weights.range(&second).is_some() {
            let shortcut = weights.joined(&direct, parts, outputs)?;
            (weights.conv(&second, outputs, outputs)?, Shortcut::Before(shortcut))
        } else {
            (weights.conv_and_shortcut(&second, &direct, parts, outputs)?, Shortcut::Joined)
        };
        Ok(Self { norm1, conv1, norm2, conv2, shortcut })
    }

    pub fn shape(&self) -> ResNetShape {
        ResNetShape { inputs: self.norm1.channels(), outputs: self.conv2.outputs() }
    }

    /// `y` from `parts` side by side; images of a part that are fewer than those of y repeat. `time` replaces the first convolution's bias.
    pub fn forward(
        &self,
        gpu: &Gpu,
        y: Map<T>,
        parts: &[Map<T>],
        time: Option<Bias>,
        scratch: &Scratch<T>,
    ) -> Result<()> {
        let (rows, size, pixels) = (y.rows, y.size, y.pixels());
        let ResNetShape { inputs, outputs } = self.shape();
        let between = scratch.between.map(rows, size, outputs);
        let normed = self.conv1.input(scratch.normed, rows, rows * pixels * inputs);
        self.norm1.forward(gpu, normed.x, parts, rows, true, scratch.table)?;
        let epilogue = self.conv1.epilogue();
        let epilogue = Epilogue { bias: time.unwrap_or(epilogue.bias), moments: Some(between.moments), ..epilogue };
        self.conv1.run(gpu, between.x.into(), normed, &[], epilogue, &self.conv1.shape(rows, size))?;

        let normed = self.conv2.input(scratch.normed, rows, rows * pixels * outputs);
        self.norm2.forward(gpu, normed.x, &[between], rows, true, scratch.table)?;
        let sources: Vec<_> = parts.iter().map(|part| part.source()).collect();
        let (more, residual) = match &self.shortcut {
            Shortcut::Residual => (&[][..], sources.first().copied()),
            Shortcut::Joined => (&sources[..], None),
            Shortcut::Before(layer) => {
                layer.join(gpu, y, &sources)?;
                (&[][..], Some(y.source()))
            }
        };
        let epilogue = Epilogue { moments: Some(y.moments), residual, ..self.conv2.epilogue() };
        self.conv2.run(gpu, y.x.into(), normed, more, epilogue, &self.conv2.shape(rows, size))
    }
}
