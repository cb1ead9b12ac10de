//! A diffusers folder ready to draw: text to context, noise to latents, latents to pictures.
//!
//! A batch is dealt to lanes, one per thread; a lane takes its images through all steps on its own, so that no thread ever waits for another one.
//! A batch too small for that runs in one lane whose every product is shared by all threads. The bits are the same either way.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::lane::{Job, Lane, lanes};
use super::sampler::{Sampler, SamplerKind, SchedulerConfig};
use crate::bail;
use crate::device::{MappedFile, Plan};
use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::models::clip_text::{self, ClipText};
use crate::models::tokenizer::Tokenizer;
use crate::models::unet::{self, TextContext, UNet};
use crate::models::vae::{self, Decoder};
use crate::ops::gemm::Threads;
use crate::ops::sampler_step::NoiseKey;
use crate::store;
use crate::weights::SafeTensors;

/// Largest width and height, pixels.
const MAX_SIDE: usize = 4096;

/// What a pipeline is opened for.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Diffusers folder.
    pub model: &'a Path,
    pub sampler: SamplerKind,
    pub steps: usize,
    /// w; 1 for none, and then [`Pipeline::set_guidance_scale`] can set no other.
    pub guidance_scale: f32,
    pub negative_prompt: &'a str,
    /// Pixels; the model's own size when absent.
    pub width: Option<usize>,
    pub height: Option<usize>,
    /// Most images drawn at once.
    pub batch: usize,
}

/// A caption as the UNet sees it.
#[derive(Debug)]
pub struct Text {
    /// Tokens that did not fit.
    pub truncated: usize,
    pub(super) context: TextContext,
}

/// A picture out of the autoencoder.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub image: Rgb8,
    /// Whether the decoder gave a value that is no number.
    pub not_finite: bool,
}

/// Weights, schedule and memory.
#[derive(Debug)]
pub struct Pipeline {
    sha256: String,
    tokenizer: Tokenizer,
    text: ClipText,
    unet: UNet,
    decoder: Decoder,
    sampler: Sampler,
    /// One row per call of the UNet.
    time_table: Vec<Vec<f32>>,
    guidance_scale: f32,
    /// The other guidance branch, when the pipeline was opened for one.
    unconditional: Option<Text>,
    /// Height and width of the latent.
    latent: (usize, usize),
    lanes: Vec<Lane>,
}

impl Pipeline {
    /// Reads the model, checks that its parts and the settings fit, and takes the memory from `plan`.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that cannot be run, [`Error::Data`] for a folder that is not a Stable Diffusion 1.x model.
    pub fn open(settings: &Settings<'_>, plan: &mut Plan) -> Result<Self> {
        let model = settings.model;
        if !model.is_dir() {
            bail!(
                Usage,
                "--model {}: no such folder; expected a diffusers folder of Stable Diffusion 1.x",
                model.display()
            );
        }
        let scheduler = SchedulerConfig::read(&model.join("scheduler/scheduler_config.json"))?;
        let sampler = Sampler::new(settings.sampler, &scheduler, settings.steps)?;
        let text_config = clip_text::Config::open(&model.join("text_encoder/config.json"))?;
        let unet_config = unet::Config::open(&model.join("unet/config.json"))?;
        let vae_config = vae::Config::open(&model.join("vae/config.json"))?;
        check_fit(model, &text_config, &unet_config, &vae_config)?;
        let latent = latent_size(settings, &unet_config, &vae_config)?;
        if settings.batch == 0 {
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
        let sha256 = fingerprint(model, [&text_weights, &unet_weights, &vae_weights])?;
        let text = ClipText::load(text_config, &text_weights)?;
        let unet = UNet::load(unet_config, &unet_weights)?;
        let decoder = Decoder::load(vae_config, &vae_weights)?;
        for (name, values) in [("text encoder", text.values()), ("unet", unet.values()), ("decoder", decoder.values())]
        {
            plan.record("weights", name, 4 * values as u64);
        }
        let branches = if settings.guidance_scale == 1.0 { 1 } else { 2 };
        let tokens = text.config().tokens;
        plan.record("captions", "keys and values", 4 * (settings.batch * unet.context_len(tokens)) as u64);
        let lanes = lanes(plan, (&unet, &sampler, &decoder), settings.batch, branches, latent);
        let mut this = Self {
            sha256,
            tokenizer,
            text,
            time_table: unet.time_table(&sampler.timesteps()),
            unet,
            decoder,
            sampler,
            guidance_scale: settings.guidance_scale,
            unconditional: None,
            latent,
            lanes,
        };
        if branches == 2 {
            this.unconditional = Some(this.encode_text(settings.negative_prompt)?);
        }
        Ok(this)
    }

    /// SHA-256 over everything of the model that decides an image: weights, configs, tokenizer.
    pub fn model_sha256(&self) -> &str {
        &self.sha256
    }

    /// Width and height of the pictures.
    pub fn size(&self) -> (usize, usize) {
        let factor = self.decoder.config().factor();
        (self.latent.1 * factor, self.latent.0 * factor)
    }

    /// Channels, height and width of a latent.
    pub fn latent_shape(&self) -> [usize; 3] {
        [self.decoder.config().latent_channels, self.latent.0, self.latent.1]
    }

    /// Encodes one caption: tokens, text states, keys and values of every cross-attention.
    pub fn encode_text(&self, caption: &str) -> Result<Text> {
        let encoding = self.tokenizer.encode(caption)?;
        let states = self.text.encode(&[&encoding.ids])?;
        Ok(Text { truncated: encoding.truncated, context: self.unet.context(&states[0]) })
    }

    /// [`Pipeline::encode_text`] of several captions, spread over the threads.
    pub fn encode_texts(&self, captions: &[&str]) -> Result<Vec<Text>> {
        captions.par_iter().map(|caption| self.encode_text(caption)).collect()
    }

    /// Draws what follows under guidance scale `w`.
    ///
    /// # Panics
    /// If `w` is not 1 and the pipeline was opened for 1: it has no memory for the other branch.
    pub fn set_guidance_scale(&mut self, w: f32) {
        assert!(w == 1.0 || self.unconditional.is_some(), "guidance scale {w} in a pipeline without guidance");
        self.guidance_scale = w;
    }

    /// Calls of the UNet per image.
    pub fn calls(&self) -> usize {
        self.time_table.len()
    }

    /// Takes unit noise `latents [n, C, h, w]` to the final latents, in place; `texts` holds the caption of each image (adjacent images of one
    /// caption share its products), `keys` what the sampler's own noise is keyed by. `on_step` hears how many calls of the UNet are done.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when a signal asks to stop.
    ///
    /// # Panics
    /// If there are more images than the batch the pipeline was opened for, or the lengths differ.
    pub fn sample(
        &mut self,
        texts: &[&Text],
        keys: &[NoiseKey],
        latents: &mut [f32],
        on_step: &mut dyn FnMut(usize),
    ) -> Result<()> {
        let values = self.latent_shape().iter().product::<usize>();
        assert_eq!(latents.len(), texts.len() * values, "sample: latents of {} images", texts.len());
        assert_eq!(keys.len(), texts.len(), "sample: keys of {} images", texts.len());
        let (shares, threads) = self.shares(texts.len());
        let (unet, sampler, latent) = (&self.unet, &self.sampler, self.latent);
        let (table, w) = (&self.time_table, self.guidance_scale);
        let unconditional = self.unconditional.as_ref().filter(|_| w != 1.0).map(|text| (text, w));
        let run = |(lane, images, latents): Share<'_>, on_step: &mut dyn FnMut(usize)| {
            let job = Job { unet, sampler, table, unconditional, latent, threads };
            lane.sample(&job, images, latents, on_step)
        };
        let mut parts = split(&mut self.lanes, &shares, (texts, keys), latents, values).into_iter();
        let Some(own) = parts.next() else { return Ok(()) };
        // The first lane runs here, so that `on_step` is called by its owner; the others in the pool.
        let mut results = vec![Ok(()); shares.len() - 1];
        let first = rayon::in_place_scope(|scope| {
            for (part, result) in parts.zip(&mut results) {
                let run = &run;
                scope.spawn(move |_| *result = run(part, &mut |_| ()));
            }
            run(own, on_step)
        });
        if results.into_iter().any(|result| result.is_err()) || first.is_err() {
            return store::check_interrupt("run the same command again to go on");
        }
        Ok(())
    }

    /// Decodes final latents `[n, C, h, w]` (before the division by the scaling factor).
    pub fn decode(&mut self, latents: &[f32]) -> Result<Vec<Decoded>> {
        let shape = self.latent_shape();
        let values = shape.iter().product::<usize>();
        let n = latents.len() / values;
        let (shares, threads) = self.shares(n);
        let (decoder, size) = (&self.decoder, self.latent);
        let mut pictures: Vec<Vec<Decoded>> = vec![Vec::new(); shares.len()];
        let mut start = 0;
        rayon::in_place_scope(|scope| {
            for ((lane, &share), pictures) in self.lanes.iter_mut().zip(&shares).zip(&mut pictures) {
                let latents = &latents[start * values..(start + share) * values];
                start += share;
                let mut work = move || *pictures = lane.decode(decoder, latents, size, threads);
                if threads == Threads::All { work() } else { scope.spawn(move |_| work()) }
            }
        });
        Ok(pictures.concat())
    }

    /// Images per lane, and whether the one lane in use should call all threads.
    fn shares(&self, images: usize) -> (Vec<usize>, Threads) {
        let lanes = self.lanes.len().min(images).max(1);
        let shares = (0..lanes).map(|lane| images / lanes + usize::from(lane < images % lanes)).collect();
        (shares, if lanes == 1 { Threads::All } else { Threads::One })
    }
}

/// One lane with the captions and noise keys of its images, and their latents.
type Share<'a> = (&'a mut Lane, (&'a [&'a Text], &'a [NoiseKey]), &'a mut [f32]);

fn split<'a>(
    lanes: &'a mut [Lane],
    shares: &[usize],
    (mut texts, mut keys): (&'a [&'a Text], &'a [NoiseKey]),
    mut latents: &'a mut [f32],
    values: usize,
) -> Vec<Share<'a>> {
    let mut out = Vec::new();
    for (lane, &share) in lanes.iter_mut().zip(shares) {
        let (my_texts, other_texts) = texts.split_at(share);
        let (my_keys, other_keys) = keys.split_at(share);
        let (mine, rest) = latents.split_at_mut(share * values);
        (texts, keys, latents) = (other_texts, other_keys, rest);
        out.push((lane, (my_texts, my_keys), mine));
    }
    out
}

/// The parts must be of one model.
fn check_fit(model: &Path, text: &clip_text::Config, unet: &unet::Config, vae: &vae::Config) -> Result<()> {
    let fits = [
        ("unet `cross_attention_dim`", unet.context, "text_encoder `hidden_size`", text.width),
        ("unet `in_channels`", unet.in_channels, "vae `latent_channels`", vae.latent_channels),
        ("unet `out_channels`", unet.out_channels, "vae `latent_channels`", vae.latent_channels),
        ("vae `out_channels`", vae.out_channels, "the channels of an RGB picture,", 3),
    ];
    for (what, found, other, expected) in fits {
        if found != expected {
            bail!(
                Data,
                "{}: {what} is {found}, expected {other} {expected}; is this a text-to-image model of Stable Diffusion 1.x?",
                model.display()
            );
        }
    }
    Ok(())
}

/// Height and width of the latent for the pictures asked for.
fn latent_size(settings: &Settings<'_>, unet: &unet::Config, vae: &vae::Config) -> Result<(usize, usize)> {
    let factor = vae.factor();
    let side = |flag: &str, wanted: Option<usize>| -> Result<usize> {
        let Some(pixels) = wanted else {
            let own = unet.sample_size.filter(|own| (1..=MAX_SIDE).contains(&(own * factor)));
            return own.ok_or_else(|| {
                let config = settings.model.join("unet/config.json");
                Error::Usage(format!("{}: no usable `sample_size`; give --width and --height", config.display()))
            });
        };
        if pixels == 0 || pixels > MAX_SIDE || !pixels.is_multiple_of(factor) {
            bail!(Usage, "--{flag} {pixels}: expected a multiple of {factor} from {factor} to {MAX_SIDE}");
        }
        Ok(pixels / factor)
    };
    Ok((side("height", settings.height)?, side("width", settings.width)?))
}

/// SHA-256 over name, length and bytes of every file that was read, in the order of their names.
fn fingerprint(model: &Path, weights: [&SafeTensors; 3]) -> Result<String> {
    let mut files: Vec<PathBuf> = weights.iter().flat_map(|w| w.files().map(Path::to_path_buf)).collect();
    let others = [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "vae/config.json",
    ];
    files.extend(others.iter().map(|name| model.join(name)).filter(|path| path.exists()));
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let bytes = MappedFile::open(&path)?;
        let name = path.strip_prefix(model).unwrap_or(&path).to_string_lossy().into_owned();
        hash.update(format!("{name} {}\n", bytes.len()));
        hash.update(&bytes[..]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
