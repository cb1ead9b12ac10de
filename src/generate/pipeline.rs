//! A diffusers folder ready to draw: captions to tokens, and batches of images to a device.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::cpu::Cpu;
#[cfg(cuda_kernels)]
use super::cuda::Cuda;
use super::drawing::Drawing;
use super::fingerprint::fingerprint;
use super::model_folder;
use super::request::{Request, guides};
use super::sampler::{Sampler, SchedulerConfig};
use super::sizes::{check_fit, latent_size, stored_size};
use super::trace::{Flops, Trace};
use crate::bail;
use crate::device::{Device, Plan, Queued};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::cpu::Caption;
use crate::models::clip_text;
use crate::models::tokenizer::{Encoding, Tokenizer};
use crate::models::unet;
use crate::models::vae;
use crate::say;
use crate::weights::{Cache, SafeTensors};

/// Batches under way at most: one that is drawn and one that waits for its turn.
pub const AHEAD: usize = 2;
/// Images drawn at once on the CPU unless told otherwise.
const CPU_BATCH: usize = 16;

/// In which type a device keeps feature maps and weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Full precision: the CPU's
    #[default]
    F32,
    /// 11 bits, what most Stable Diffusion models are published in
    F16,
    /// 8 bits, the range of f32
    Bf16,
}

/// Whether convolutions and linear layers of the UNet are computed in e4m3, 8 bits, on GPUs.
#[derive(Clone, Copy, Debug, Default)]
pub enum Fp8<'a> {
    #[default]
    Off,
    /// Not yet: how large the inputs get of the layers that could be is kept for [`Pipeline::ranges`].
    Observe,
    /// Those with a range.
    On(&'a Calibration),
}

/// What a pipeline is opened for.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Diffusers folder.
    pub model: &'a Path,
    pub device: Device,
    /// The device's usual one when absent: f32 on the CPU, f16 on a GPU.
    pub precision: Option<Precision>,
    pub fp8: Fp8<'a>,
    /// Its scale is for none where it does not guide, and then no request's may (`guides`); its seed is the requests'.
    pub drawing: Drawing,
    /// Shorter side of the stored pictures, for devices that resize; as drawn when absent.
    pub store_size: Option<usize>,
    /// Most images drawn at once; 16 on the CPU and what fits on a GPU when absent.
    pub batch: Option<usize>,
}

/// A caption as the networks see it.
#[derive(Clone, Debug)]
pub struct Text {
    /// Tokens that did not fit.
    pub truncated: usize,
    #[cfg_attr(not(cuda_kernels), allow(dead_code))]
    pub(super) ids: Vec<u32>,
    /// Empty where the device keeps it.
    pub(super) context: Arc<Caption>,
}

/// A picture out of the autoencoder.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub image: Rgb8,
    /// Whether the decoder gave a value that is no number.
    pub not_finite: bool,
    /// Whether all pixels, as drawn, are the same.
    pub constant: bool,
}

/// A batch that was drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Final latents `[n, C, h, w]`.
    pub latents: Vec<f32>,
    pub pictures: Vec<Decoded>,
    /// If the pipeline traces.
    pub trace: Option<Trace>,
}

/// What draws. Latents are `[n, C, h, w]`; `on_step` hears how many calls of the UNet are done.
pub(super) trait Painter: std::fmt::Debug {
    /// Most images of a batch.
    fn batch(&self) -> usize;
    /// Keys and values of captions given as token ids, where the host keeps them.
    fn contexts(&self, ids: &[&[u32]]) -> Result<Vec<Arc<Caption>>>;
    /// Unit noise to final latents.
    fn sample(&mut self, request: &Request, on_step: &mut dyn FnMut(usize)) -> Result<Vec<f32>>;
    /// Final latents (before the division by the scaling factor) to pictures.
    fn decode(&mut self, latents: &[f32]) -> Result<Vec<Decoded>>;
    /// Begins a batch; the pipeline sees to it that at most [`AHEAD`] are under way.
    fn start(&mut self, request: Request) -> Result<()>;
    /// Waits for the batch begun first.
    fn finish(&mut self, on_step: &mut dyn FnMut(usize)) -> Result<Drawn>;
    /// Largest magnitudes so far of what the observed layers read.
    fn ranges(&self) -> Result<BTreeMap<String, f32>> {
        Ok(BTreeMap::new())
    }
    /// Whether batches begun from here on are traced.
    fn trace(&mut self, _on: bool) {}
    /// Bytes of device memory taken.
    fn device_bytes(&self) -> u64 {
        0
    }
    /// Kernels and replays so far.
    fn queued(&self) -> Queued {
        Queued::default()
    }
}

/// A model on a device.
#[derive(Debug)]
pub struct Pipeline {
    sha256: String,
    tokenizer: Tokenizer,
    pub(super) painter: Box<dyn Painter>,
    pub(super) flops: Flops,
    precision: Precision,
    guided: bool,
    /// Calls of the UNet per image.
    calls: usize,
    /// Channels, height and width of a latent.
    latent: [usize; 3],
    corrected: bool,
    /// Pixels per latent pixel and axis.
    factor: usize,
    /// Batches begun and not finished.
    under_way: usize,
}

/// A model's files and what is to be drawn with it.
#[derive(Debug)]
// A build without kernels has only the CPU, which stores pictures as drawn and packs nothing.
#[cfg_attr(not(cuda_kernels), allow(dead_code))]
pub(super) struct Parts<'a> {
    pub text: (clip_text::Config, SafeTensors),
    pub unet: (unet::Config, SafeTensors),
    pub decoder: (vae::Config, SafeTensors),
    pub sampler: Sampler,
    /// Token ids of the branch without caption, if there may be guidance.
    pub unconditional: Option<Vec<u32>>,
    /// Height and width.
    pub latent: (usize, usize),
    /// Width and height of the pictures as drawn and as stored.
    pub drawn: (usize, usize),
    pub stored: (usize, usize),
    pub batch: Option<usize>,
    pub fp8: Fp8<'a>,
    pub sha256: &'a str,
    pub cache: &'a Cache,
}

impl Pipeline {
    /// Reads the model, checks that its parts and the settings fit, and takes the memory from `plan`.
    ///
    /// # Errors
    /// Usage error for settings that cannot be run, data error for a folder that is not a Stable Diffusion 1.x model.
    pub fn open(settings: &Settings<'_>, plan: &mut Plan) -> Result<Self> {
        let model = settings.model;
        model_folder::check(model)?;
        let scheduler = SchedulerConfig::read(&model.join("scheduler/scheduler_config.json"))?;
        let (scheduler, corrected, said) = scheduler.corrected(settings.drawing.sampler);
        let sampler = Sampler::new(settings.drawing.sampler, &scheduler, settings.drawing.steps)?;
        said.iter().chain(&sampler.remarks).for_each(|remark| say!("{remark}"));
        let text_config = clip_text::Config::open(&model.join("text_encoder/config.json"))?;
        let unet_config = unet::Config::open(&model.join("unet/config.json"))?;
        let vae_config = vae::Config::open(&model.join("vae/config.json"))?;
        check_fit(model, &text_config, &unet_config, &vae_config)?;
        let latent = latent_size(settings, &unet_config, &vae_config)?;
        if settings.batch == Some(0) {
            bail!(Usage, "--batch 0: expected at least 1 image at once");
        }

        let tokenizer = Tokenizer::open(&model.join("tokenizer"), text_config.tokens)?;
        if tokenizer.vocab_size() > text_config.vocab {
            bail!(
                Data,
                "{}: the tokenizer has {} tokens, the text encoder knows {}; they belong to different models",
                model.display(),
                tokenizer.vocab_size(),
                text_config.vocab
            );
        }
        let text_weights = SafeTensors::open_folder(model.join("text_encoder"), "model")?;
        let unet_weights = SafeTensors::open_folder(model.join("unet"), "diffusion_pytorch_model")?;
        let vae_weights = SafeTensors::open_folder(model.join("vae"), "diffusion_pytorch_model")?;
        let cache = Cache::open();
        let sha256 = fingerprint(model, [&text_weights, &unet_weights, &vae_weights], &cache)?;
        if let Fp8::On(calibration) = settings.fp8 {
            calibration.check(model, &sha256, &unet_config)?;
        }
        let factor = vae_config.factor();
        let drawn = (latent.1 * factor, latent.0 * factor);
        let unconditional = match guides(settings.drawing.guidance_scale) {
            false if !settings.drawing.negative_prompt.is_empty() => {
                say!("--negative-prompt has no effect: guidance scales of 1 and less follow the caption alone");
                None
            }
            false => None,
            true => Some(negative(&tokenizer, &settings.drawing.negative_prompt)?),
        };
        let (calls, channels, guided) = (sampler.rows().len(), vae_config.latent_channels, unconditional.is_some());
        let parts = Parts {
            text: (text_config, text_weights),
            unet: (unet_config, unet_weights),
            decoder: (vae_config, vae_weights),
            sampler,
            unconditional,
            latent,
            drawn,
            stored: settings.store_size.map_or(drawn, |side| stored_size(drawn, side)),
            batch: settings.batch,
            fp8: settings.fp8,
            sha256: &sha256,
            cache: &cache,
        };
        let (flops, latent) = (Flops::of(&parts)?, [channels, latent.0, latent.1]);
        let (painter, precision) = painter(settings, &parts, plan)?;
        let sha256 = sha256.clone();
        Ok(Self {
            sha256,
            tokenizer,
            painter,
            flops,
            precision,
            guided,
            calls,
            latent,
            corrected,
            factor,
            under_way: 0,
        })
    }

    /// SHA-256 over everything of the model that decides an image: weights, configs, tokenizer.
    pub fn model_sha256(&self) -> &str {
        &self.sha256
    }

    /// Width and height of the pictures as drawn.
    pub fn size(&self) -> (usize, usize) {
        (self.latent[2] * self.factor, self.latent[1] * self.factor)
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

    /// With [`Fp8::Observe`]: by layer, the largest magnitude of what it has read so far.
    pub fn ranges(&self) -> Result<BTreeMap<String, f32>> {
        self.painter.ranges()
    }

    /// Calls of the UNet per image.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Encodes captions: tokens and, where the host keeps them, keys and values of every cross-attention. Spread over the threads.
    pub fn encode_texts(&self, captions: &[&str]) -> Result<Vec<Text>> {
        let tokenizer = &self.tokenizer;
        let encode = |caption: &&str| tokenizer.encode(caption);
        let encodings = captions.par_iter().map(encode).collect::<Result<Vec<_>>>()?;
        let ids: Vec<&[u32]> = encodings.iter().map(|encoding| &encoding.ids[..]).collect();
        let contexts = self.painter.contexts(&ids)?;
        let text = |(encoding, context): (Encoding, Arc<Caption>)| Text {
            truncated: encoding.truncated,
            ids: encoding.ids,
            context,
        };
        Ok(encodings.into_iter().zip(contexts).map(text).collect())
    }

    /// Takes unit noise to the final latents `[n, C, h, w]`. `on_step` hears how many calls of the UNet are done.
    ///
    /// # Errors
    /// An interruption when a signal asks to stop.
    ///
    /// # Panics
    /// If there are more images than [`Pipeline::batch`], the lengths differ, or a batch is under way.
    pub fn sample(&mut self, request: &Request, on_step: &mut dyn FnMut(usize)) -> Result<Vec<f32>> {
        self.check(request, 0);
        self.painter.sample(request, on_step)
    }

    /// Decodes final latents `[n, C, h, w]` (before the division by the scaling factor).
    ///
    /// # Panics
    /// If a batch is under way.
    pub fn decode(&mut self, latents: &[f32]) -> Result<Vec<Decoded>> {
        assert_eq!(self.under_way, 0, "decode: a batch is under way");
        self.painter.decode(latents)
    }

    /// Begins to draw a batch. A second one may be begun before the first is finished: then a GPU goes from one to the next without a pause.
    ///
    /// # Panics
    /// As [`Pipeline::sample`], or if two are under way.
    pub fn start(&mut self, request: Request) -> Result<()> {
        self.check(&request, AHEAD - 1);
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
    pub fn finish(&mut self, on_step: &mut dyn FnMut(usize)) -> Result<Drawn> {
        assert!(self.under_way > 0, "finish: nothing was begun");
        self.under_way -= 1;
        self.painter.finish(on_step)
    }

    fn check(&self, request: &Request, under_way: usize) {
        assert!(self.under_way <= under_way, "{} batches are under way", self.under_way);
        let Request { texts, keys, latents, guidance_scale: w } = request;
        assert!(self.guided || !guides(*w), "guidance scale {w} in a pipeline without guidance");
        let fits = (1..=self.batch()).contains(&texts.len()) && keys.len() == texts.len();
        let values: usize = self.latent.iter().product();
        assert!(fits && latents.len() == texts.len() * values, "{} images of at most {}", texts.len(), self.batch());
    }
}

/// Token ids of the negative prompt; says what of it is not read.
fn negative(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let Encoding { ids, truncated } = tokenizer.encode(text)?;
    if truncated > 0 {
        say!(
            "--negative-prompt: its last {truncated} tokens are cut, as the text encoder reads {}; put what matters first",
            ids.len() - 2
        );
    }
    Ok(ids)
}

/// What draws, and in which precision.
fn painter(settings: &Settings<'_>, parts: &Parts<'_>, plan: &mut Plan) -> Result<(Box<dyn Painter>, Precision)> {
    if settings.device == Device::Cpu && !matches!(settings.fp8, Fp8::Off) {
        bail!(Usage, "fp8: the CPU computes in f32; give --device cuda");
    }
    match (settings.device, settings.precision) {
        (Device::Cpu, None | Some(Precision::F32)) => {
            Ok((Box::new(Cpu::new(parts, settings.batch.unwrap_or(CPU_BATCH), plan)?), Precision::F32))
        }
        (Device::Cpu, Some(_)) => {
            bail!(Usage, "--precision: the CPU computes in f32; f16 and bf16 are for --device cuda")
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
        (Device::Cuda(ordinal), None | Some(Precision::F16)) => {
            Ok((Box::new(Cuda::<half::f16>::open(ordinal, parts)?), Precision::F16))
        }
    }
}
