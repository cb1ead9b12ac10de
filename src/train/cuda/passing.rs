//! Features of pictures that nothing is learned of, beside the updates of a run.

use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::count::Tally;
use crate::layers::training::cuda::{Call, Memory};
use crate::layers::training::{Layers, Layout, Weights};
use crate::models::vit::VitActs;
use crate::train::method::{Name, Network};

/// Pictures that go through the ViT at once.
const AT_ONCE: usize = 64;

/// Device memory for them.
#[derive(Debug)]
pub struct Passing {
    pictures: View<u8>,
    memory: Memory,
    /// Whose encoder the run is judged by.
    judged: Weights,
}

impl Passing {
    /// For a run of `method`.
    pub fn new(arena: &mut Arena, network: &dyn Network, method: Name) -> Result<Self> {
        let (vit, mut layout, mut tally) = (network.vit(), Layout::default(), Tally::default());
        let acts = VitActs::in_passing(&mut layout, vit.config(), AT_ONCE);
        vit.forward(&mut tally, &acts, 0)?;
        let pictures = arena.take("encoder", "pictures", AT_ONCE * vit.config().image_len());
        Ok(Self { pictures, memory: Memory::take(arena, &layout, &tally), judged: method.judged() })
    }

    /// The features `[N, D]` of `pictures` of the model's side, by the encoder that a run is judged by; `call` is one
    /// of an update.
    ///
    /// # Errors
    /// If the device fails.
    pub fn features<'a>(
        &'a self,
        gpu: &Gpu,
        network: &dyn Network,
        call: impl Fn() -> Call<'a, 'a>,
        pictures: &[Rgb8],
    ) -> Result<Vec<f32>> {
        let vit = network.vit();
        let mut features = Vec::with_capacity(pictures.len() * vit.config().width);
        for pictures in pictures.chunks(AT_ONCE) {
            let bytes: Vec<u8> = pictures.iter().flat_map(|picture| picture.data.iter().copied()).collect();
            gpu.write(self.pictures.slice(0..bytes.len()), &bytes)?;
            // The last ones may be fewer, at the beginning of the same buffers.
            let acts = VitActs::in_passing(&mut Layout::default(), vit.config(), pictures.len());
            let mut call = Call { memory: &self.memory, images: self.pictures, ..call() };
            call.switch(self.judged)?;
            vit.forward(&mut call, &acts, 0)?;
            features.extend(self.memory.read(gpu, acts.features())?);
        }
        Ok(features)
    }
}
