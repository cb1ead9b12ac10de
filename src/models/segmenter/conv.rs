//! A convolution without bias, a batch norm and a ReLU: what heads of segmentation networks are made of
//! (mmsegmentation's `ConvModule`). A 3×3 convolution of padding 1 is a product over the neighbourhood of each pixel,
//! an image at a time; its weight is `[out, row, column, in]`.

use super::pass::{Grads, Pass};
use crate::error::Result;
use crate::layers::training::{BatchNorm, Buffer, Kind, Layers, Layout, Linear};
use crate::models::init;
use crate::ops::{linear, neighbourhood};
use crate::rng::Stream;
use crate::weights::{Param, ParamTable};

/// Columns of a convolution's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    One,
    Three,
}

impl Window {
    fn pixels(self) -> usize {
        match self {
            Self::One => 1,
            Self::Three => 9,
        }
    }
}

/// The places of its tensors, and its sizes.
#[derive(Clone, Copy, Debug)]
pub struct ConvNorm {
    w: Param,
    norm: BatchNorm,
    window: Window,
    inputs: usize,
    outputs: usize,
}

/// Maps of `n` images, `side`×`side` pixels each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub n: usize,
    pub side: usize,
}

impl Grid {
    /// Pixels of all images.
    pub fn rows(self) -> usize {
        self.n * self.side * self.side
    }
}

/// What it remembers.
#[derive(Clone, Copy, Debug)]
pub struct ConvActs {
    grid: Grid,
    /// Of the convolution `[N·side², out]`, and its statistics.
    product: Buffer,
    stats: Buffer,
    /// Behind norm and ReLU.
    pub y: Buffer,
}

impl ConvNorm {
    /// Appends `name.conv.weight` and `name.bn.…` to `table`, and `name.bn.running_…` to `statistics`.
    pub fn new(
        name: &str,
        window: Window,
        [inputs, outputs]: [usize; 2],
        table: &mut ParamTable,
        statistics: &mut ParamTable,
    ) -> Self {
        let shape: &[usize] = match window {
            Window::One => &[outputs, inputs],
            Window::Three => &[outputs, 3, 3, inputs],
        };
        let w = table.add(format!("{name}.conv.weight"), shape);
        Self { w, norm: batch_norm(&format!("{name}.bn"), outputs, true, table, statistics), window, inputs, outputs }
    }

    /// Room for it over maps of this grid.
    pub fn acts(&self, layout: &mut Layout, name: &str, grid: Grid) -> ConvActs {
        let mut take = |what: &str, len, kind| layout.take("segmentation head", format!("{name}{what}"), len, kind);
        ConvActs {
            grid,
            product: take(".conv", grid.rows() * self.outputs, Kind::Rounded),
            stats: take(".bn.stats", 2 * self.outputs, Kind::Exact),
            y: take("", grid.rows() * self.outputs, Kind::Rounded),
        }
    }

    /// Values of the neighbourhoods of an image's pixels that it looks at.
    pub fn scratch(&self, side: usize) -> usize {
        match self.window {
            Window::One => 0,
            Window::Three => side * side * 9 * self.inputs,
        }
    }

    /// PyTorch's initial values for convolutions as mmsegmentation leaves them to its norms: He's, by the fan out.
    pub fn init(&self, params: &mut [f32], statistics: &mut [f32], stream: &mut Stream) {
        init::he_fan_out(self.w.of_mut(params), stream, self.window.pixels() * self.outputs);
        init_batch_norm(&self.norm, params, statistics);
    }

    fn linear(&self) -> Linear {
        Linear { w: self.w, b: None }
    }

    /// The product over `rows` pixels.
    fn shape(&self, rows: usize) -> linear::Shape {
        linear::Shape { rows, inputs: self.window.pixels() * self.inputs, outputs: self.outputs }
    }

    /// Image `i` of maps of so many channels.
    fn image(map: Buffer, grid: Grid, i: usize) -> Buffer {
        let each = map.len() / grid.n;
        map.slice(i * each..(i + 1) * each)
    }

    fn neighbourhood(&self, side: usize) -> neighbourhood::Shape {
        neighbourhood::Shape { n: 1, side, c: self.inputs }
    }

    /// `acts.y` from `x`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, x: Buffer, acts: ConvActs, pass: Pass) -> Result<()> {
        let ConvActs { grid, product, stats, y } = acts;
        match self.window {
            Window::One => on.linear(product, x, self.linear(), self.shape(grid.rows()))?,
            Window::Three => {
                let around = pass.around.first(self.scratch(grid.side));
                for i in 0..grid.n {
                    on.neighbourhoods(around, Self::image(x, grid, i), self.neighbourhood(grid.side))?;
                    let product = Self::image(product, grid, i);
                    on.linear(product, around, self.linear(), self.shape(grid.side * grid.side))?;
                }
            }
        }
        pass.norm(on, y, stats, product, self.norm)
    }

    /// `dx`, where it is wanted, from the gradient `d` of `acts.y`, which it overwrites; adds those of its tensors.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        dx: Option<Buffer>,
        d: Buffer,
        x: Buffer,
        acts: ConvActs,
        grads: &Grads,
    ) -> Result<()> {
        let ConvActs { grid, product, stats, y } = acts;
        on.batch_norm_backward(d, grads.spare.first(d.len()), (product, stats), y, self.norm)?;
        match self.window {
            Window::One => {
                let shape = self.shape(grid.rows());
                on.weight_gradient(d, x, self.linear(), shape)?;
                dx.map_or(Ok(()), |dx| on.input_gradient(dx, d, self.w, shape))
            }
            Window::Three => {
                let (around, shape) = (grads.around.first(self.scratch(grid.side)), self.neighbourhood(grid.side));
                for i in 0..grid.n {
                    let d = Self::image(d, grid, i);
                    on.neighbourhoods(around, Self::image(x, grid, i), shape)?;
                    on.weight_gradient(d, around, self.linear(), self.shape(grid.side * grid.side))?;
                    if let Some(dx) = dx {
                        on.input_gradient(around, d, self.w, self.shape(grid.side * grid.side))?;
                        on.neighbourhoods_backward(Self::image(dx, grid, i), around, shape)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The places of a batch norm with gain and shift, behind which a ReLU follows where `relu`.
pub fn batch_norm(
    name: &str,
    width: usize,
    relu: bool,
    table: &mut ParamTable,
    statistics: &mut ParamTable,
) -> BatchNorm {
    let affine = ["weight", "bias"].map(|what| table.add(format!("{name}.{what}"), &[width]));
    let running = ["running_mean", "running_var"].map(|what| statistics.add(format!("{name}.{what}"), &[width]));
    BatchNorm { affine: Some(affine), running, slots: 1, relu }
}

/// A norm that changes nothing yet.
pub fn init_batch_norm(norm: &BatchNorm, params: &mut [f32], statistics: &mut [f32]) {
    if let Some([gamma, beta]) = norm.affine {
        gamma.of_mut(params).fill(1.0);
        beta.of_mut(params).fill(0.0);
    }
    norm.running[0].of_mut(statistics).fill(0.0);
    norm.running[1].of_mut(statistics).fill(1.0);
}
