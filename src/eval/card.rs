//! An encoder's weights and one batch on a GPU.

use crate::bail;
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::training::count::Tally;
use crate::layers::training::cuda::{Call, Memory};
use crate::layers::training::{Layout, Weights};
use crate::models::vit::{Vit, VitActs};
use crate::ops::augment::Scales;
use crate::ops::convert::cuda::to_bf16;
use crate::ops::self_attention::cuda::HEAD_DIMS;
use crate::say;
use crate::weights::DeviceParams;

/// Images that go through the ViT at once.
const AT_ONCE: usize = 128;

/// An encoder on a GPU: bf16 weights and activations, f32 sums, as in training.
#[derive(Debug)]
pub struct Card {
    gpu: Gpu,
    params: DeviceParams,
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
        let config = vit.config();
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
        let mut dry = Arena::dry();
        lay_out(&mut dry, vit, params.len())?;
        dry.check(&gpu, "the encoder needs", "take a smaller encoder, or --device cpu")?;
        let mut arena = Arena::allocate(&gpu, &dry)?;
        let (params_gpu, pictures, memory, none) = lay_out(&mut arena, vit, params.len())?;
        gpu.write(params_gpu.master, params)?;
        to_bf16(&gpu, params_gpu.rounded, params_gpu.master)?;
        say!("on {}, {}", gpu.name(), arena.plan());
        Ok(Self { gpu, params: params_gpu, pictures, memory, scales, none, _arena: arena })
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
            let bytes: Vec<u8> = images.iter().flat_map(|image| image.data.iter().copied()).collect();
            self.gpu.write(self.pictures.slice(0..bytes.len()), &bytes)?;
            // The last ones may be fewer, at the beginning of the same buffers.
            let acts = VitActs::in_passing(&mut Layout::default(), vit.config(), images.len());
            vit.forward(&mut self.call(), &acts, 0)?;
            features.extend(self.memory.read(&self.gpu, acts.features())?);
        }
        Ok(features)
    }

    fn call(&self) -> Call<'_, '_> {
        let none = self.none.cast();
        Call {
            gpu: &self.gpu,
            memory: &self.memory,
            params: self.params,
            statistics: none,
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

/// Weights, pictures, activations, and a buffer of nothing for what a network in training has beside.
fn lay_out(arena: &mut Arena, vit: &Vit, len: usize) -> Result<(DeviceParams, View<u8>, Memory, View<u32>)> {
    let (mut layout, mut tally) = (Layout::default(), Tally::default());
    let acts = VitActs::in_passing(&mut layout, vit.config(), AT_ONCE);
    vit.forward(&mut tally, &acts, 0)?;
    let params = DeviceParams::frozen(arena, len);
    let pictures = arena.take("encoder", "pictures", AT_ONCE * vit.config().image_len());
    Ok((params, pictures, Memory::take(arena, &layout, &tally), arena.take("encoder", "nothing", 0)))
}
