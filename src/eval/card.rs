//! A frozen network's weights and one batch on a GPU.

use crate::bail;
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::count::Tally;
use crate::layers::training::cuda::{Call, Memory};
use crate::layers::training::{Buffer, Layers, Layout, Weights};
use crate::models::vit::{Vit, VitActs, VitConfig};
use crate::ops::augment::Scales;
use crate::ops::convert::cuda::to_bf16;
use crate::ops::self_attention::cuda::HEAD_DIMS;
use crate::say;
use crate::weights::DeviceParams;

/// Images that go through the ViT at once.
const AT_ONCE: usize = 128;

/// A network on a GPU: bf16 weights and activations, f32 sums, as in training.
#[derive(Debug)]
pub struct Card {
    gpu: Gpu,
    params: DeviceParams,
    statistics: View<f32>,
    pictures: View<u8>,
    memory: Memory,
    scales: Scales,
    none: View<u32>,
    /// Owns what the views point to.
    _arena: Arena,
}

impl Card {
    /// Opens the GPU and brings `params` of `vit` there; pixels are normalised by `scales`.
    ///
    /// # Errors
    /// Device error when there is no usable GPU or too little memory; usage error for sizes without kernels.
    pub fn new(ordinal: usize, vit: &Vit, params: &[f32], scales: Scales) -> Result<Self> {
        let mut layout = Layout::default();
        let acts = VitActs::in_passing(&mut layout, vit.config(), AT_ONCE);
        let walk = |on: &mut dyn Layers| vit.forward(on, &acts, 0);
        Self::of_walk(ordinal, vit.config(), [params, &[]], (&layout, AT_ONCE), scales, &walk)
    }

    /// The same of any network that begins as a ViT of `config`: its parameters, the statistics of its batch norms, the
    /// tensors of `walk`, and how many pictures that is given.
    ///
    /// # Errors
    /// As [`Card::new`].
    pub fn of_walk(
        ordinal: usize,
        config: &VitConfig,
        [params, statistics]: [&[f32]; 2],
        (layout, pictures): (&Layout, usize),
        scales: Scales,
        walk: &dyn Fn(&mut dyn Layers) -> Result<()>,
    ) -> Result<Self> {
        let head_dim = config.width / config.heads;
        if !HEAD_DIMS.contains(&head_dim) || config.channels != 3 {
            bail!(
                Usage,
                "an encoder of {} channels with heads of {head_dim}: the CUDA kernels take images of 3 channels and heads \
                 of 32 or 64; use --device cpu",
                config.channels
            );
        }
        let gpu = Gpu::open(ordinal)?;
        let mut tally = Tally::default();
        walk(&mut tally)?;
        let lay_out = |arena: &mut Arena| {
            let pictures = arena.take("encoder", "pictures", pictures * config.image_len());
            let (params, memory) = (DeviceParams::frozen(arena, params.len()), Memory::take(arena, layout, &tally));
            let statistics = arena.take("encoder", "running statistics", statistics.len());
            (params, statistics, pictures, memory, arena.take("encoder", "nothing", 0))
        };
        let mut dry = Arena::dry();
        lay_out(&mut dry);
        dry.check(&gpu, "the encoder needs", "take a smaller encoder, or --device cpu")?;
        let mut arena = Arena::allocate(&gpu, &dry)?;
        let (to, kept, pictures, memory, none) = lay_out(&mut arena);
        gpu.write(to.master, params)?;
        gpu.write(kept, statistics)?;
        to_bf16(&gpu, to.rounded, to.master)?;
        say!("on {}, {}", gpu.name(), arena.plan());
        Ok(Self { gpu, params: to, statistics: kept, pictures, memory, scales, none, _arena: arena })
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Features `[N, D]` of images of the encoder's size.
    ///
    /// # Errors
    /// If the device fails.
    pub fn features(&self, vit: &Vit, images: &[Rgb8]) -> Result<Vec<f32>> {
        let mut features = Vec::with_capacity(images.len() * vit.config().width);
        for images in images.chunks(AT_ONCE) {
            self.show(images)?;
            // The last ones may be fewer, at the beginning of the same buffers.
            let acts = VitActs::in_passing(&mut Layout::default(), vit.config(), images.len());
            vit.forward(&mut self.call(), &acts, 0)?;
            features.extend(self.read(acts.features())?);
        }
        Ok(features)
    }

    /// What the next walk sees.
    ///
    /// # Errors
    /// If the device fails.
    pub fn show(&self, images: &[Rgb8]) -> Result<()> {
        let bytes: Vec<u8> = images.iter().flat_map(|image| image.data.iter().copied()).collect();
        self.gpu.write(self.pictures.slice(0..bytes.len()), &bytes)
    }

    /// Waits, and reads what a walk made.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self, buffer: Buffer) -> Result<Vec<f32>> {
        self.memory.read(&self.gpu, buffer)
    }

    /// A walk over what is shown.
    pub fn call(&self) -> Call<'_, '_> {
        let none = self.none.cast();
        Call {
            gpu: &self.gpu,
            memory: &self.memory,
            params: self.params,
            statistics: self.statistics,
            momentum: None,
            weights: Weights::Online,
            images: self.pictures,
            scales: self.scales,
            numbers: self.none,
            scalars: none,
            loss: none,
            noted: none,
            stages: None,
        }
    }
}
