//! What a diffusers folder holds, read and checked for what is to be drawn with it.

use super::drawing::guides;
use super::fingerprint::{Fingerprint, fingerprint};
use super::model_folder;
use super::sampler::{Sampler, SchedulerConfig};
use super::settings::{Fp8, Settings};
use super::sizes::{check_fit, latent_size};
use super::trace::Flops;
use crate::bail;
use crate::error::Result;
use crate::models::tokenizer::{Encoding, Tokenizer};
use crate::models::{clip_text, unet, vae};
use crate::say;
use crate::weights::{Cache, SafeTensors};

/// A model's files and what is to be drawn with it.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub tokenizer: Tokenizer,
    pub text: (clip_text::Config, SafeTensors),
    pub unet: (unet::Config, SafeTensors),
    pub decoder: (vae::Config, SafeTensors),
    pub sampler: Sampler,
    /// Whether the sampler feels what of the scheduler's config was put right as diffusers does.
    pub corrected: bool,
    /// Token ids of the branch without caption, if there may be guidance.
    pub unconditional: Option<Vec<u32>>,
    /// Height and width.
    pub latent: (usize, usize),
    /// Width and height of the pictures as drawn.
    pub drawn: (usize, usize),
    pub settings: &'a Settings<'a>,
    /// Over everything of the model that decides an image: weights, configs, tokenizer, and what is folded in.
    pub sha256: String,
    /// Scale and hash of each file that is folded in.
    pub loras: Vec<String>,
}

impl<'a> Parts<'a> {
    /// Reads configs and tokenizer, maps the weights, and checks that all of it and the settings fit.
    ///
    /// # Errors
    /// Usage error for settings that cannot be run, data error for a folder that is no Stable Diffusion model.
    pub(super) fn open(settings: &'a Settings<'a>) -> Result<Self> {
        let model = settings.model;
        model_folder::check(model)?;
        let scheduler = SchedulerConfig::read(&model.join("scheduler/scheduler_config.json"))?;
        let scheduler = scheduler.spaced(settings.drawing.timestep_spacing, settings.drawing.sampler)?;
        let (scheduler, corrected, said) = scheduler.corrected(settings.drawing.sampler);
        let sampler = Sampler::new(settings.drawing.sampler, &scheduler, settings.drawing.steps)?;
        let calls = sampler.rows().len();
        let sampler = match settings.drawing.guidance_interval {
            Some(interval) => {
                let guided = interval.of(calls);
                if guided.is_empty() {
                    say!("--guidance-interval {interval}: holds none of {calls} calls: all follow the caption alone");
                }
                sampler.guided_in(guided)
            }
            None => sampler,
        };
        let sampler = sampler.reusing(settings.drawing.cache_every.unwrap_or(1));
        said.iter().chain(&sampler.remarks).for_each(|remark| say!("{remark}"));
        let text = clip_text::Config::open(&model.join("text_encoder/config.json"))?;
        let unet = unet::Config::open(&model.join("unet/config.json"))?;
        let vae = vae::Config::open(&model.join("vae/config.json"))?;
        check_fit(model, &text, &unet, &vae)?;
        let latent = latent_size(settings, &unet, &vae)?;
        if settings.batch == Some(0) {
            bail!(Usage, "--batch 0: expected at least 1 image at once");
        }

        let tokenizer = Tokenizer::open(&model.join("tokenizer"), text.tokens)?;
        if tokenizer.vocab_size() > text.vocab {
            bail!(
                Data,
                "{}: the tokenizer has {} tokens, the text encoder knows {}; they belong to different models",
                model.display(),
                tokenizer.vocab_size(),
                text.vocab
            );
        }
        let mut text_weights = SafeTensors::open_folder(model.join("text_encoder"), "model")?;
        let mut unet_weights = SafeTensors::open_folder(model.join("unet"), "diffusion_pytorch_model")?;
        let vae_weights = SafeTensors::open_folder(model.join("vae"), "diffusion_pytorch_model")?;
        for lora in settings.loras {
            lora.fold(&mut unet_weights, &mut text_weights)?;
        }
        let files = [&text_weights, &unet_weights, &vae_weights];
        let Fingerprint { sha256, loras } = fingerprint(model, files, settings.loras, &Cache::open())?;
        if let Fp8::On(calibration) = settings.fp8 {
            calibration.check(model, &sha256, &unet)?;
        }
        let unconditional = match guides(settings.drawing.guidance_scale) && !unet.is_told_guidance() {
            false => {
                unguided(settings, &unet);
                None
            }
            true => Some(negative(&tokenizer, &settings.drawing.negative_prompt)?),
        };
        Ok(Self {
            tokenizer,
            text: (text, text_weights),
            unet: (unet, unet_weights),
            drawn: (latent.1 * vae.factor(), latent.0 * vae.factor()),
            decoder: (vae, vae_weights),
            sampler,
            corrected,
            unconditional,
            latent,
            settings,
            sha256,
            loras,
        })
    }

    /// Width and height of the pictures as stored.
    #[cfg(cuda_kernels)]
    pub(super) fn stored(&self) -> (usize, usize) {
        self.settings.store_size.map_or(self.drawn, |side| super::sizes::stored_size(self.drawn, side))
    }

    /// What an image asks for.
    pub(super) fn flops(&self) -> Result<Flops> {
        let text = &self.text.0;
        let unet = self.unet.0.flops(self.latent, text.tokens)?;
        let mut flops = Flops {
            text: text.flops()? + unet.context,
            call: unet.call,
            decoder: self.decoder.0.flops(self.latent)?,
            calls: self.sampler.rows().len(),
            ..Flops::default()
        };
        for call in 0..flops.calls {
            let reuses = self.sampler.reuses(call);
            let guided = self.unconditional.is_some() && self.sampler.guides(call);
            let (each, shared) = if reuses { (unet.again, unet.again_shared) } else { (unet.call, unet.shared) };
            flops.unet += each + if guided { each } else { 0.0 };
            flops.saved += if guided { shared } else { 0.0 };
            (flops.guided, flops.reusing) = (flops.guided + usize::from(guided), flops.reusing + usize::from(reuses));
        }
        Ok(flops)
    }
}

/// Says which settings of guidance have no effect where there is one branch.
fn unguided(settings: &Settings<'_>, unet: &unet::Config) {
    let why = match unet.is_told_guidance() {
        true => "this model is told the guidance scale, and has no second branch",
        false => "guidance scales of 1 and less follow the caption alone",
    };
    let drawing = &settings.drawing;
    for (flag, given) in [
        ("--negative-prompt", !drawing.negative_prompt.is_empty()),
        ("--guidance-interval", drawing.guidance_interval.is_some()),
    ] {
        if given {
            say!("{flag} has no effect: {why}");
        }
    }
}

/// Token ids of the negative prompt; says what of it is not read.
fn negative(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let Encoding { ids, truncated, .. } = tokenizer.encode(text)?;
    if truncated > 0 {
        say!(
            "--negative-prompt: its last {truncated} tokens are cut, as the text encoder reads {}; put what matters first",
            ids.len() - 2
        );
    }
    Ok(ids)
}
