//! On a GPU: maps and weights as two bf16 halves, whose products on matrix units are within 1e-5 of f32's.

use super::{CHANNELS, Conv, Layers, Maps, Part, Slot};
use crate::device::cuda::kernels::contrastive::PIECE;
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::ops::conv2d::cuda::{self as conv2d, Weights};
use crate::ops::conv2d::{Shape, Window};
use crate::ops::halves::{Columns, words};
use crate::ops::packed::Packed;
use crate::ops::pool::{Pool, cuda as pool};

/// Channels of a map are rounded up to this.
pub const CHANNELS_OF: usize = PIECE;

/// Values under a kernel that slides over pictures.
fn under(window: Window) -> usize {
    window.taps() * CHANNELS
}

/// The weights of a convolution of `inputs` channels as they are brought to the device, and its bias.
pub fn operand(conv: &Conv<Packed>, inputs: usize) -> (Vec<u32>, Vec<f32>) {
    // What the first convolution reads are rows of all that lies under its kernel.
    let split_by = if inputs == CHANNELS { under(conv.window) } else { inputs };
    let bias = conv.weights.bias.clone().unwrap_or_else(|| vec![0.0; conv.outputs]);
    (conv2d::operand(&conv.weights, split_by), bias)
}

/// What a walk reads and writes.
#[derive(Debug)]
pub struct Memory {
    pictures: View<f32>,
    /// What lies under the first kernel.
    pixels: View<u32>,
    maps: [View<u32>; Slot::WRITTEN],
}

impl Memory {
    /// Room for `shown`, for what lies under the kernel of the `first` convolution, and for what
    /// [`Needs`](super::count::Needs) counted.
    pub fn take<W>(arena: &mut Arena, shown: Maps, first: Option<&Conv<W>>, needs: [usize; Slot::WRITTEN]) -> Self {
        let rows = first.map_or(0, |conv| words(shown.under(conv.window).rows(), under(conv.window)));
        Self {
            pictures: arena.take("maps", "pictures", shown.pixels() * shown.channels),
            pixels: arena.take("maps", "pixels under the first kernel", rows),
            maps: needs.map(|len| arena.take("maps", "maps", len)),
        }
    }

    /// What the next walk sees.
    ///
    /// # Errors
    /// If the device fails.
    pub fn show(&self, gpu: &Gpu, pictures: &[f32]) -> Result<()> {
        gpu.write(self.pictures.slice(0..pictures.len()), pictures)
    }

    /// Means `y [N, C]` over the pixels of `maps`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn mean(&self, gpu: &Gpu, y: View<f32>, maps: Maps) -> Result<()> {
        pool::mean(gpu, y, self.view(maps), maps.size.0 * maps.size.1, maps.channels)
    }

    fn view(&self, maps: Maps) -> View<u32> {
        self.maps[maps.slot.number()].slice(0..words(maps.pixels(), maps.channels))
    }

    fn columns(&self, y: Part) -> Columns {
        Columns { rows: self.view(y.maps), of: y.maps.channels, first: y.first, channels: y.channels }
    }
}

/// A walk on a device.
#[derive(Debug)]
pub struct Call<'a> {
    pub gpu: &'a Gpu,
    pub memory: &'a Memory,
}

impl Layers<Weights> for Call<'_> {
    fn conv(&mut self, y: Part, x: Maps, conv: &Conv<Weights>) -> Result<()> {
        let (shape, to) = (x.under(conv.window), self.memory.columns(y));
        if x.slot != Slot::Pictures {
            return conv2d::forward(self.gpu, to, self.memory.view(x), conv.weights, shape);
        }
        let rows =
            Shape { n: 1, height: 1, width: shape.rows(), channels: under(conv.window), window: Window::same(1, 1) };
        let pixels = self.memory.pixels.slice(0..words(rows.width, rows.channels));
        conv2d::pixels(self.gpu, pixels, self.memory.pictures.slice(0..shape.inputs()), shape)?;
        conv2d::forward(self.gpu, to, pixels, conv.weights, rows)
    }

    fn pool(&mut self, y: Part, x: Maps, (kind, window): (Pool, Window)) -> Result<()> {
        pool::forward(self.gpu, self.memory.columns(y), self.memory.view(x), kind, x.under(window))
    }
}
