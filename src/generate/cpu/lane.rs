//! The images one thread draws: their memory, their way through all steps, their decoding.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::Plan;
use crate::generate::painter::Decoded;
use crate::generate::sampler::Sampler;
use crate::image::Rgb8;
use crate::models::unet::{self, Batch, TextContext, UNet};
use crate::models::vae::{self, Decoder};
use crate::ops::gemm::Threads;
use crate::ops::pixels;
use crate::ops::sampler_step::{self, NoiseKey, State};
use crate::store;

/// Latent pixels the autoencoder decodes at once: enough rows for efficient products, little enough memory.
const DECODE_PIXELS: usize = 1024;

/// Memory of the images one thread draws.
#[derive(Debug)]
pub(super) struct Lane {
    unet: unet::Memory,
    decoder: vae::Memory,
    /// What the UNet is given.
    input: Vec<f32>,
    /// Model outputs of both branches.
    eps: Vec<f32>,
    /// Outputs that the sampler remembers.
    history: Vec<f32>,
    /// Noise that the sampler adds.
    noise: Vec<f32>,
    /// What the decoder is given.
    scaled: Vec<f32>,
    /// Decoded pictures.
    picture: Vec<f32>,
}

/// What all lanes of a batch share.
pub(super) struct Job<'a> {
    pub unet: &'a UNet,
    pub sampler: &'a Sampler,
    pub decoder: &'a Decoder,
    /// One row per call of the UNet.
    pub table: &'a [Vec<f32>],
    /// Keys and values by place; those of the branch without caption first.
    pub contexts: &'a [TextContext],
    /// Scale w, if it guides.
    pub guidance: Option<f32>,
    /// Height and width of the latent.
    pub latent: (usize, usize),
    /// Whether the latents are to be decoded.
    pub pictures: bool,
    pub threads: Threads,
    /// Whether nobody waits for pictures any more.
    pub closed: &'a AtomicBool,
}

impl Job<'_> {
    fn stopped(&self) -> bool {
        store::interrupted() || self.closed.load(Ordering::Relaxed)
    }
}

/// The images of one lane.
pub(super) struct Images<'a> {
    /// Where the keys and values of each one's caption are.
    pub places: &'a [usize],
    pub keys: &'a [NoiseKey],
    /// Unit noise, which becomes final latents, `[n, h, w, C]`.
    pub latents: &'a mut [f32],
}

impl Lane {
    /// Takes images through all steps, and decodes them if that is wanted.
    ///
    /// # Errors
    /// Without a message when a signal arrived or nobody waits any more.
    pub(super) fn draw(
        &mut self,
        job: &Job<'_>,
        images: Images<'_>,
        on_step: &mut dyn FnMut(usize),
    ) -> std::result::Result<Vec<Decoded>, Stopped> {
        let Images { places, keys, latents } = images;
        self.sample(job, places, keys, latents, on_step)?;
        if job.pictures { self.decode(job, latents) } else { Ok(Vec::new()) }
    }

    fn sample(
        &mut self,
        job: &Job<'_>,
        places: &[usize],
        keys: &[NoiseKey],
        x: &mut [f32],
        on_step: &mut dyn FnMut(usize),
    ) -> std::result::Result<(), Stopped> {
        if job.stopped() {
            return Err(Stopped);
        }
        let n = places.len();
        x.iter_mut().for_each(|x| *x *= job.sampler.initial());
        let input = &mut self.input[..x.len()];
        input.iter_mut().zip(&*x).for_each(|(input, x)| *input = job.sampler.first_input() * x);
        let history = &mut self.history[..job.sampler.slots() * x.len()];
        let equal = places.chunk_by(|a, b| a == b);
        let mut runs: Vec<_> = equal.map(|run| (run.len(), &job.contexts[run[0]])).collect();
        runs.extend(job.guidance.map(|_| (n, &job.contexts[0])));
        let batch = Batch { images: n, size: job.latent, runs };
        let eps = &mut self.eps[..x.len() / n * batch.rows()];
        for (call, (step, time)) in job.sampler.steps().iter().zip(job.table).enumerate() {
            job.unet.forward(eps, input, &batch, time, &mut self.unet, job.threads);
            let (conditional, other) = eps.split_at(x.len());
            let unconditional = job.guidance.map(|w| (other, w));
            let noise: &mut [f32] = if step.noise == 0.0 { &mut [] } else { &mut self.noise[..x.len()] };
            for (z, key) in noise.chunks_exact_mut(x.len() / n).zip(keys) {
                key.draw(call as u32, z);
            }
            sampler_step::advance(State { x, input, history, noise }, conditional, unconditional, step);
            on_step(call + 1);
            if job.stopped() {
                return Err(Stopped);
            }
        }
        Ok(())
    }

    fn decode(&mut self, job: &Job<'_>, latents: &[f32]) -> std::result::Result<Vec<Decoded>, Stopped> {
        let (config, size) = (job.decoder.config(), job.latent);
        let (scale, factor) = (config.scaling_factor as f32, config.factor());
        let (height, width) = (size.0 * factor, size.1 * factor);
        let values = config.latent_channels * size.0 * size.1;
        let mut out = Vec::new();
        for latents in latents.chunks(at_once(size) * values) {
            if job.closed.load(Ordering::Relaxed) {
                return Err(Stopped);
            }
            let n = latents.len() / values;
            let scaled = &mut self.scaled[..latents.len()];
            scaled.iter_mut().zip(latents).for_each(|(scaled, x)| *scaled = x / scale);
            let picture = &mut self.picture[..n * height * width * config.out_channels];
            job.decoder.decode(picture, scaled, (n, size), &mut self.decoder, job.threads);
            for picture in picture.chunks_exact(height * width * config.out_channels) {
                let mut data = vec![0; picture.len()];
                pixels::to_u8(&mut data, picture);
                let not_finite = !picture.iter().all(|v| v.is_finite());
                let constant = data.chunks_exact(3).all(|pixel| pixel == &data[..3]);
                out.push(Decoded { image: Rgb8 { width, height, data }, not_finite, constant });
            }
        }
        Ok(out)
    }
}

/// A lane ended early: because of a signal, or because nobody waits for its pictures.
#[derive(Clone, Debug)]
pub(super) struct Stopped;

/// What lanes are laid out for.
pub(super) struct Lanes<'a> {
    pub unet: &'a UNet,
    pub sampler: &'a Sampler,
    pub decoder: &'a Decoder,
    /// 2 if there may be guidance, else 1.
    pub branches: usize,
    /// Height and width of the latent.
    pub latent: (usize, usize),
}

impl Lanes<'_> {
    /// Lanes for batches of up to `batch` images: one per thread, or one in all when there are fewer images than
    /// threads.
    pub(super) fn take(&self, plan: &mut Plan, batch: usize) -> Vec<Lane> {
        let Self { unet, sampler, decoder, branches, latent } = *self;
        let threads = rayon::current_num_threads();
        let lanes = if batch >= threads { threads } else { 1 };
        let images = batch.div_ceil(lanes);
        let pixels = latent.0 * latent.1;
        let config = decoder.config();
        let decoded = images.min(at_once(latent));
        let picture = pixels * config.factor().pow(2) * config.out_channels;
        let values = pixels * config.latent_channels;
        (0..lanes)
            .map(|_| Lane {
                unet: unet.memory(plan, "unet", images * branches, latent),
                decoder: decoder.memory(plan, "decoder", decoded, latent),
                input: plan.f32("latents", "inputs", images * values),
                eps: plan.f32("latents", "predictions", branches * images * values),
                history: plan.f32("latents", "history", sampler.slots() * images * values),
                noise: plan.f32("latents", "noise", usize::from(sampler.draws()) * images * values),
                scaled: plan.f32("latents", "scaled", decoded * values),
                picture: plan.f32("decoder", "pictures", decoded * picture),
            })
            .collect()
    }
}

/// Latents decoded in one call.
fn at_once(latent: (usize, usize)) -> usize {
    (DECODE_PIXELS / (latent.0 * latent.1)).max(1)
}
