//! The same on CUDA: feature maps that carry what the next group norm wants to know of them, layers packed for the kernels, the
//! residual block.

mod weights;

use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::ops::conv::cuda::{self as conv, Activation, Bias, Epilogue, Segment, Source, Taps};
use crate::ops::groupnorm::cuda as groupnorm;

pub use super::Size;
pub use weights::{LAYOUT, Weights};

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
        y: View<T>,
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
        groupnorm::apply(gpu, y, &values, table, silu, rows, pixels)
    }
}

/// A product with its weights and bias.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    pub(super) w: View<T>,
    pub(super) bias: Option<View<f32>>,
    /// Columns of the weights; a gated layer gives half of them.
    pub(super) outputs: usize,
    pub(super) segments: Vec<Segment>,
    pub(super) activation: Activation,
}

impl<T: Half> Layer<T> {
    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        if self.activation == Activation::Geglu { self.outputs / 2 } else { self.outputs }
    }

    fn shape(&self, n: usize, size: Size) -> conv::Shape {
        conv::Shape { n, height: size.0, width: size.1, outputs: self.outputs, segments: self.segments.clone() }
    }

    fn epilogue(&self) -> Epilogue<T> {
        let bias = self.bias.map_or(Bias::None, Bias::Vector);
        Epilogue { bias, activation: self.activation, ..Epilogue::default() }
    }

    /// `y = x·w + bias (+ residual)` over `rows` images of `tokens`; images of x and of the residual repeat when they are fewer.
    pub fn linear(
        &self,
        gpu: &Gpu,
        y: View<T>,
        x: Source<T>,
        residual: Option<Source<T>>,
        (rows, tokens): (usize, usize),
    ) -> Result<()> {
        let epilogue = Epilogue { residual, ..self.epilogue() };
        conv::forward(gpu, y, &[x], self.w, epilogue, &self.shape(rows, (1, tokens)))
    }

    /// A whole map from a tensor of its size.
    pub fn map(&self, gpu: &Gpu, y: Map<T>, x: Source<T>, residual: Option<Source<T>>) -> Result<()> {
        let epilogue = Epilogue { residual, moments: Some(y.moments), ..self.epilogue() };
        conv::forward(gpu, y.x, &[x], self.w, epilogue, &self.shape(y.rows, y.size))
    }

    /// The 3×3 convolution of a map at half or at another resolution.
    pub fn resample(&self, gpu: &Gpu, y: Map<T>, x: Map<T>, taps: Taps) -> Result<()> {
        let segments = vec![Segment { channels: x.channels, taps }];
        let epilogue = Epilogue { moments: Some(y.moments), ..self.epilogue() };
        conv::forward(
            gpu,
            y.x,
            &[x.source()],
            self.w,
            epilogue,
            &conv::Shape { segments, ..self.shape(y.rows, x.size) },
        )
    }

    /// The last layer: f32 values.
    pub fn last(&self, gpu: &Gpu, y: View<f32>, x: Source<T>, (rows, size): (usize, Size)) -> Result<()> {
        conv::forward_f32(gpu, y, &[x], self.w, self.epilogue(), &self.shape(rows, size))
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

/// Residual block: `y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`. The shortcut is extra K of the second convolution.
#[derive(Clone, Debug)]
pub struct ResNet<T> {
    norm1: Norm,
    conv1: Layer<T>,
    norm2: Norm,
    conv2: Layer<T>,
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
        let shortcut = if parts == [outputs] { &[][..] } else { parts };
        Ok(Self {
            norm1: Norm::load(weights, &format!("{name}.norm1"), inputs, groups, eps)?,
            conv1: weights.conv(&format!("{name}.conv1"), inputs, outputs)?,
            norm2: Norm::load(weights, &format!("{name}.norm2"), outputs, groups, eps)?,
            conv2: weights.conv_and_shortcut(
                &format!("{name}.conv2"),
                &format!("{name}.conv_shortcut"),
                shortcut,
                outputs,
            )?,
        })
    }

    pub fn shape(&self) -> ResNetShape {
        ResNetShape { inputs: self.norm1.channels(), outputs: self.conv2.outputs }
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
        let normed = scratch.normed.slice(0..rows * pixels * inputs);
        let between = scratch.between.map(rows, size, outputs);
        self.norm1.forward(gpu, normed, parts, rows, true, scratch.table)?;
        let epilogue = self.conv1.epilogue();
        let epilogue = Epilogue { bias: time.unwrap_or(epilogue.bias), moments: Some(between.moments), ..epilogue };
        let source = Source { x: normed, rows };
        conv::forward(gpu, between.x, &[source], self.conv1.w, epilogue, &self.conv1.shape(rows, size))?;

        let normed = scratch.normed.slice(0..rows * pixels * outputs);
        self.norm2.forward(gpu, normed, &[between], rows, true, scratch.table)?;
        let mut sources = vec![Source { x: normed, rows }];
        let mut epilogue = Epilogue { moments: Some(y.moments), ..self.conv2.epilogue() };
        if self.conv2.segments.len() > 1 {
            sources.extend(parts.iter().map(|part| part.source()));
        } else {
            epilogue.residual = Some(parts[0].source());
        }
        conv::forward(gpu, y.x, &sources, self.conv2.w, epilogue, &self.conv2.shape(rows, size))
    }
}
