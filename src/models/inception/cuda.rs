//! On a GPU: maps and weights as two bf16 halves, whose products on matrix units are within 1e-5 of f32's.

use super::needs::Needs;
use super::network::{CHANNELS, Conv, Inception, Layers, Maps, Part, Slot, WIDTH};
use crate::device::cuda::kernels::contrastive::PIECE;
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::ops::conv2d::cuda::{self as conv2d, Weights};
use crate::ops::conv2d::{Shape, Window};
use crate::ops::halves::{Columns, words};
use crate::ops::pool::{Pool, cuda as pool};
use crate::say;

/// The network and the memory of a batch on a GPU.
#[derive(Debug)]
pub struct Card {
    gpu: Gpu,
    network: Inception<Weights>,
    memory: Memory,
    side: usize,
    /// At once.
    pictures: usize,
    /// Owns what the views point to.
    _arena: Arena,
}

/// Views into the arena, sizes by [`Needs`].
#[derive(Debug)]
struct Memory {
    pictures: View<f32>,
    /// What lies under the first kernel.
    pixels: View<u32>,
    maps: [View<u32>; Slot::WRITTEN],
    features: View<f32>,
}

impl Card {
    /// Opens the GPU and brings `network` there, with room for `pictures` of `side²` pixels at once.
    ///
    /// # Errors
    /// Device error when there is no usable GPU or too little memory.
    pub fn new(ordinal: usize, network: &Inception, pictures: usize, side: usize) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        let needs = Needs::of(network, pictures, side, PIECE)?;
        let shown = Maps { slot: Slot::Pictures, n: pictures, size: (side, side), channels: CHANNELS };
        let first_rows =
            network.stem[0].first().map_or(0, |conv| words(shown.under(conv.window).rows(), under(conv.window)));
        let host = network.with(&mut |conv, inputs| {
            // What the first convolution reads are rows of all that lies under its kernel.
            let split_by = if inputs == CHANNELS { under(conv.window) } else { inputs };
            let bias = conv.weights.bias.clone().unwrap_or_else(|| vec![0.0; conv.outputs]);
            Ok((conv2d::operand(&conv.weights, split_by), bias))
        })?;
        let lay_out = |arena: &mut Arena, gpu: Option<&Gpu>| -> Result<_> {
            let network = host.with(&mut |conv, _| {
                let (w, bias) = &conv.weights;
                let to = Weights {
                    w: arena.take("Inception", "weights", w.len()),
                    bias: arena.take("Inception", "biases", bias.len()),
                };
                if let Some(gpu) = gpu {
                    gpu.write(to.w, w)?;
                    gpu.write(to.bias, bias)?;
                }
                Ok(to)
            })?;
            let memory = Memory {
                pictures: arena.take("Inception", "pictures", pictures * CHANNELS * side * side),
                pixels: arena.take("Inception", "pixels under the first kernel", first_rows),
                maps: needs.map(|len| arena.take("Inception", "maps", len)),
                features: arena.take("Inception", "features", pictures * WIDTH),
            };
            Ok((network, memory))
        };
        let mut dry = Arena::dry();
        lay_out(&mut dry, None)?;
        dry.check(&gpu, "Inception needs", "use --device cpu")?;
        let mut arena = Arena::allocate(&gpu, &dry)?;
        let (network, memory) = lay_out(&mut arena, Some(&gpu))?;
        say!("on {}, {}", gpu.name(), arena.plan());
        Ok(Self { gpu, network, memory, side, pictures, _arena: arena })
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Features `[N, 2048]` of `images[N, S, S, 3]`, pixels in −1 to 1.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// When there are other pictures.
    pub fn features(&self, images: &[f32]) -> Result<Vec<f32>> {
        let each = CHANNELS * self.side * self.side;
        assert!(images.len().is_multiple_of(each), "inception: {} values are no pictures of {each}", images.len());
        let mut features = Vec::with_capacity(images.len() / each * WIDTH);
        for images in images.chunks(self.pictures * each) {
            let n = images.len() / each;
            self.gpu.write(self.memory.pictures.slice(0..images.len()), images)?;
            let last = self.network.walk(&mut Call { gpu: &self.gpu, memory: &self.memory }, n, self.side)?;
            let to = self.memory.features.slice(0..n * WIDTH);
            pool::mean(&self.gpu, to, self.memory.view(last), last.pixels() / n, WIDTH)?;
            features.extend(self.gpu.read(to)?);
        }
        Ok(features)
    }
}

/// Values under a kernel that slides over pictures.
fn under(window: Window) -> usize {
    window.taps() * CHANNELS
}

impl Memory {
    fn view(&self, maps: Maps) -> View<u32> {
        self.maps[maps.slot.number()].slice(0..words(maps.pixels(), maps.channels))
    }

    fn columns(&self, y: Part) -> Columns {
        Columns { rows: self.view(y.maps), of: y.maps.channels, first: y.first, channels: y.channels }
    }
}

struct Call<'a> {
    gpu: &'a Gpu,
    memory: &'a Memory,
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
