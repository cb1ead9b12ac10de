//! A model on a device: captions to tokens, and batches of images to what draws.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::cpu::Cpu;
#[cfg(cuda_kernels)]
use super::cuda::Cuda;
use super::drawing::guides;
use super::latents::unit_noise;
use super::painter::{AHEAD, Drawn, Painter, Request, Text, Wanted};
use super::parts::Parts;
use super::settings::{Fp8, Precision, Settings};
use super::trace::Flops;
use crate::bail;
use crate::device::{Device, Plan, Queued};
use crate::error::Result;
use crate::models::tokenizer::Tokenizer;
use crate::ops::gemm::Operands;
use crate::ops::sampler_step::NoiseKey;

/// Images drawn at once on the CPU unless told otherwise.
const CPU_BATCH: usize = 16;

/// A model on a device.
#[derive(Debug)]
pub struct Pipeline {
    sha256: String,
    loras: Vec<String>,
    tokenizer: Tokenizer,
    painter: Box<dyn Painter>,
    flops: Flops,
    precision: Precision,
    /// Whether requests may ask for guidance.
    guided: bool,
    /// Channels, height and width of a latent.
    latent: [usize; 3],
    /// Width and height of the pictures as drawn.
    drawn: (usize, usize),
    corrected: bool,
    /// Batches begun and not finished.
    under_way: usize,
}

impl Pipeline {
    /// Reads the model, checks that its parts and the settings fit, and takes the memory from `plan`.
    ///
    /// # Errors
    /// Usage error for settings that cannot be run, data error for a folder that is no Stable Diffusion model.
    pub fn open(settings: &Settings<'_>, plan: &mut Plan) -> Result<Self> {
        let parts = Parts::open(settings)?;
        let (painter, precision) = painter(&parts, plan)?;
        Ok(Self {
            painter,
            precision,
            flops: parts.flops()?,
            guided: parts.unconditional.is_some() || parts.unet.0.is_told_guidance(),
            latent: [parts.decoder.0.latent_channels, parts.latent.0, parts.latent.1],
            drawn: parts.drawn,
            corrected: parts.corrected,
            sha256: parts.sha256,
            loras: parts.loras,
            tokenizer: parts.tokenizer,
            under_way: 0,
        })
    }

    /// SHA-256 over everything of the model that decides an image: weights, configs, tokenizer.
    pub fn model_sha256(&self) -> &str {
        &self.sha256
    }

    /// Scale and hash of each file that is folded into it.
    pub fn loras(&self) -> &[String] {
        &self.loras
    }

    /// Width and height of the pictures as drawn.
    pub fn size(&self) -> (usize, usize) {
        self.drawn
    }

    /// Channels, height and width of a latent.
    pub fn latent_shape(&self) -> [usize; 3] {
        self.latent
    }

    /// Whether the sampler feels what of the scheduler's config was put right as diffusers does.
    pub fn corrected(&self) -> bool {
        self.corrected
    }

    /// Most images of a batch.
    pub fn batch(&self) -> usize {
        self.painter.batch()
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Calls of the UNet per image.
    pub fn calls(&self) -> usize {
        self.flops.calls
    }

    /// What an image asks for.
    pub fn flops(&self) -> Flops {
        self.flops
    }

    /// With [`Fp8::Observe`]: by layer, the largest magnitude of what it has read so far.
    pub fn ranges(&self) -> Result<BTreeMap<String, f32>> {
        self.painter.ranges()
    }

    /// Bytes of device memory that weights and batches were given; 0 on the CPU, whose memory the plan of
    /// [`Pipeline::open`] counts.
    pub fn device_bytes(&self) -> u64 {
        self.painter.device_bytes()
    }

    /// What was queued so far, on a device that has a queue.
    pub fn queued(&self) -> Queued {
        self.painter.queued()
    }

    /// Captions to tokens. Spread over the threads.
    pub fn encode_texts(&self, captions: &[&str]) -> Result<Vec<Text>> {
        let tokenizer = &self.tokenizer;
        captions.par_iter().map(|caption| tokenizer.encode(caption)).collect()
    }

    /// The pictures of one image of each of `captions`, from the noise of its key.
    pub fn request(&self, captions: &[&str], keys: Vec<NoiseKey>, guidance_scale: f32) -> Result<Request> {
        let noise = keys.iter().flat_map(|&key| unit_noise(key, self.latent)).collect();
        let texts = self.encode_texts(captions)?;
        Ok(Request { texts, keys, noise, guidance_scale, wanted: Wanted::default(), whole: false })
    }

    /// Draws one batch with nothing else under way. `on_step` hears how many calls of the UNet are done.
    ///
    /// # Errors
    /// An interruption when a signal asks to stop.
    ///
    /// # Panics
    /// If there are more images than [`Pipeline::batch`], the lengths differ, or a batch is under way.
    pub fn draw(&mut self, request: Request, on_step: &mut dyn FnMut(usize)) -> Result<Drawn> {
        assert_eq!(self.under_way, 0, "draw: a batch is under way");
        self.start(request)?;
        self.finish(on_step)
    }

    /// Begins to draw a batch. A second one may be begun before the first is finished: then the device goes from one to
    /// the next without a pause.
    ///
    /// # Panics
    /// If there are more images than [`Pipeline::batch`], the lengths differ, or two batches are under way.
    pub(super) fn start(&mut self, request: Request) -> Result<()> {
        assert!(self.under_way < AHEAD, "{} batches are under way", self.under_way);
        let Request { texts, keys, noise, guidance_scale: w, .. } = &request;
        assert!(self.guided || !guides(*w), "guidance scale {w} in a pipeline without guidance");
        let fits = (1..=self.batch()).contains(&texts.len()) && keys.len() == texts.len();
        let values: usize = self.latent.iter().product();
        assert!(fits && noise.len() == texts.len() * values, "{} images of at most {}", texts.len(), self.batch());
        self.painter.start(request)?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits for the batch begun first.
    ///
    /// # Errors
    /// An interruption when a signal asks to stop.
    ///
    /// # Panics
    /// If none is under way.
    pub(super) fn finish(&mut self, on_step: &mut dyn FnMut(usize)) -> Result<Drawn> {
        assert!(self.under_way > 0, "finish: nothing was begun");
        self.under_way -= 1;
        self.painter.finish(on_step)
    }
}

/// What draws, and in which precision.
fn painter(parts: &Parts<'_>, plan: &mut Plan) -> Result<(Box<dyn Painter>, Precision)> {
    let settings = parts.settings;
    if settings.device == Device::Cpu && !matches!(settings.fp8, Fp8::Off) {
        bail!(Usage, "fp8: the CPU computes in f32; give --device cuda");
    }
    match (settings.device, settings.precision) {
        (Device::Cpu, wanted) => {
            let operands = wanted.unwrap_or_default().on_cpu()?;
            let precision = match operands {
                Operands::F32 => Precision::F32,
                Operands::Bf16 => Precision::Bf16,
            };
            Ok((Box::new(Cpu::new(parts, operands, settings.batch.unwrap_or(CPU_BATCH), plan)?), precision))
        }
        #[cfg(cuda_kernels)]
        (Device::Cuda(_), Some(Precision::F32)) => {
            bail!(Usage, "--precision f32: the CUDA kernels store f16 or bf16; use one of these, or --device cpu")
        }
        #[cfg(cuda_kernels)]
        (Device::Cuda(ordinal), Some(Precision::Bf16)) => {
            Ok((Box::new(Cuda::<half::bf16>::open(ordinal, parts)?), Precision::Bf16))
        }
        #[cfg(cuda_kernels)]
        (Device::Cuda(ordinal), None | Some(Precision::Auto | Precision::F16)) => {
            Ok((Box::new(Cuda::<half::f16>::open(ordinal, parts)?), Precision::F16))
        }
    }
}
