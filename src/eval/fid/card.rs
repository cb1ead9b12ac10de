//! Inception's weights and one batch on a GPU.

use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::layers::convnet::count::Needs;
use crate::layers::convnet::cuda::{CHANNELS_OF, Call, Memory, operand};
use crate::layers::convnet::{CHANNELS, Maps, Slot};
use crate::models::inception::{Inception, WIDTH};
use crate::ops::conv2d::cuda::Weights;
use crate::say;

/// The network and the memory of a batch on a GPU.
#[derive(Debug)]
pub struct Card {
    gpu: Gpu,
    network: Inception<Weights>,
    memory: Memory,
    features: View<f32>,
    side: usize,
    /// At once.
    pictures: usize,
    /// Owns what the views point to.
    _arena: Arena,
}

impl Card {
    /// Opens the GPU and brings `network` there, with room for `pictures` of `side²` pixels at once.
    ///
    /// # Errors
    /// Device error when there is no usable GPU or too little memory.
    pub fn new(ordinal: usize, network: &Inception, pictures: usize, side: usize) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        let needs = Needs::of(CHANNELS_OF, |needs| network.walk(needs, pictures, side))?;
        let shown = Maps { slot: Slot::Pictures, n: pictures, size: (side, side), channels: CHANNELS };
        let host = network.with(&mut |conv, inputs| Ok(operand(conv, inputs)))?;
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
            let memory = Memory::take(arena, shown, network.first(), needs);
            let features = arena.take("Inception", "features", pictures * WIDTH);
            Ok((network, memory, features))
        };
        let mut dry = Arena::dry();
        lay_out(&mut dry, None)?;
        dry.check(&gpu, "Inception needs", "use --device cpu")?;
        let mut arena = Arena::allocate(&gpu, &dry)?;
        let (network, memory, features) = lay_out(&mut arena, Some(&gpu))?;
        say!("on {}, {}", gpu.name(), arena.plan());
        Ok(Self { gpu, network, memory, features, side, pictures, _arena: arena })
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
            self.memory.show(&self.gpu, images)?;
            let last = self.network.walk(&mut Call { gpu: &self.gpu, memory: &self.memory }, n, self.side)?;
            let to = self.features.slice(0..n * WIDTH);
            self.memory.mean(&self.gpu, to, last)?;
            features.extend(self.gpu.read(to)?);
        }
        Ok(features)
    }
}
