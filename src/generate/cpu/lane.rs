//! The images one thread draws: their memory, their way through all steps, their decoding.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::bail;
use crate::device::{Plan, in_pool};
use crate::error::Result;
use crate::generate::painter::Decoded;
use crate::generate::sampler::Sampler;
use crate::image::Rgb8;
use crate::layers::count::Processor;
use crate::layers::cpu::{Call, Caption, Cpu, Memory};
use crate::models::unet::UNet;
use crate::models::vae::Decoder;
use crate::ops::gemm::Threads;
use crate::ops::pixels;
use crate::ops::sampler_step::{self, NoiseKey, State};
use crate::store;

/// Latent pixels the autoencoder decodes at once: enough rows for efficient products, little enough memory.
const DECODE_PIXELS: usize = 1024;

/// Memory of the images one thread draws.
#[derive(Debug)]
pub(super) struct Lane {
    unet: Memory,
    decoder: Memory,
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
    pub unet: &'a UNet<Cpu>,
    pub sampler: &'a Sampler,
    pub decoder: &'a Decoder<Cpu>,
    /// One row per call of the UNet.
    pub table: &'a [Vec<f32>],
    /// Keys and values by place; those of the branch without caption first.
    pub contexts: &'a [Caption],
    /// Scale w, if it guides.
    pub guidance: Option<f32>,
    /// Height and width of the latent.
    pub latent: (usize, usize),
    /// Whether the latents are to be decoded.
    pub pictures: bool,
    /// Whether every call is whole and guided, whatever the sampler says.
    pub whole: bool,
    pub threads: Threads,
    /// Whether nobody waits for pictures any more.
    pub closed: &'a AtomicBool,
}

impl Job<'_> {
    /// # Errors
    /// When a signal arrived, or nobody waits any more.
    fn check(&self) -> Result<()> {
        store::check_interrupt("run the same command again to go on")?;
        if self.closed.load(Ordering::Relaxed) {
            bail!(Failed, "nobody waits for the pictures any more");
        }
        Ok(())
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
    /// When a signal arrived, or nobody waits any more.
    pub(super) fn draw(
        &mut self,
        job: &Job<'_>,
        images: Images<'_>,
        on_step: &mut dyn FnMut(usize),
    ) -> Result<Vec<Decoded>> {
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
    ) -> Result<()> {
        job.check()?;
        let n = places.len();
        x.iter_mut().for_each(|x| *x *= job.sampler.initial());
        let input = &mut self.input[..x.len()];
        input.iter_mut().zip(&*x).for_each(|(input, x)| *input = job.sampler.first_input() * x);
        let history = &mut self.history[..job.sampler.slots() * x.len()];
        let equal = places.chunk_by(|a, b| a == b);
        let mut runs: Vec<_> = equal.map(|run| (run.len(), &job.contexts[run[0]])).collect();
        let alone = runs.len();
        runs.extend(job.guidance.map(|_| (n, &job.contexts[0])));
        for (call, (step, time)) in job.sampler.steps().iter().zip(job.table).enumerate() {
            let guidance = job.guidance.filter(|_| job.whole || job.sampler.guides(call));
            let captions = if guidance.is_some() { &runs[..] } else { &runs[..alone] };
            let rows = captions.iter().map(|run| run.0).sum();
            let eps = &mut self.eps[..x.len() / n * rows];
            let mut on = Call { input, output: eps, time, captions, ..Call::new(&mut self.unet, job.threads) };
            in_pool(|| match job.sampler.reuses(call) && !job.whole {
                true => job.unet.forward_again(&mut on, (n, rows), job.latent),
                false => job.unet.forward(&mut on, (n, rows), job.latent),
            })?;
            let (conditional, other) = eps.split_at(x.len());
            let unconditional = guidance.map(|w| (other, w));
            let noise: &mut [f32] = if step.noise == 0.0 { &mut [] } else { &mut self.noise[..x.len()] };
            for (z, key) in noise.chunks_exact_mut(x.len() / n).zip(keys) {
                key.draw(call as u32, z);
            }
            sampler_step::advance(State { x, input, history, noise }, conditional, unconditional, step);
            on_step(call + 1);
            job.check()?;
        }
        Ok(())
    }

    fn decode(&mut self, job: &Job<'_>, latents: &[f32]) -> Result<Vec<Decoded>> {
        let (config, size) = (job.decoder.config(), job.latent);
        let (scale, factor) = (config.scaling_factor as f32, config.factor());
        let (height, width) = (size.0 * factor, size.1 * factor);
        let values = config.latent_channels * size.0 * size.1;
        let mut out = Vec::new();
        for latents in latents.chunks(at_once(size) * values) {
            job.check()?;
            let n = latents.len() / values;
            let scaled = &mut self.scaled[..latents.len()];
            scaled.iter_mut().zip(latents).for_each(|(scaled, x)| *scaled = x / scale);
            let picture = &mut self.picture[..n * height * width * config.out_channels];
            let mut on = Call { input: scaled, output: picture, ..Call::new(&mut self.decoder, job.threads) };
            in_pool(|| job.decoder.decode(&mut on, n, size))?;
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

/// What lanes are laid out for.
pub(super) struct Lanes<'a> {
    pub unet: &'a UNet<Cpu>,
    pub sampler: &'a Sampler,
    pub decoder: &'a Decoder<Cpu>,
    /// 2 if there may be guidance, else 1.
    pub branches: usize,
    /// Height and width of the latent.
    pub latent: (usize, usize),
}

impl Lanes<'_> {
    /// Lanes for batches of up to `batch` images: one per thread, or one in all when there are fewer images than
    /// threads.
    pub(super) fn take(&self, plan: &mut Plan, batch: usize) -> Result<Vec<Lane>> {
        let Self { unet, sampler, decoder, branches, latent } = *self;
        let threads = rayon::current_num_threads();
        let lanes = if batch >= threads { threads } else { 1 };
        let images = batch.div_ceil(lanes);
        let pixels = latent.0 * latent.1;
        let config = decoder.config();
        let decoded = images.min(at_once(latent));
        let picture = pixels * config.factor().pow(2) * config.out_channels;
        let values = pixels * config.latent_channels;
        let sampling = unet.config().rooms(Processor::Cpu, images, images * branches, latent)?;
        let decoding = config.rooms(Processor::Cpu, decoded, latent)?;
        let lane = |_| Lane {
            unet: Memory::take(plan, "unet", &sampling),
            decoder: Memory::take(plan, "decoder", &decoding),
            input: plan.f32("latents", "inputs", images * values),
            eps: plan.f32("latents", "predictions", branches * images * values),
            history: plan.f32("latents", "history", sampler.slots() * images * values),
            noise: plan.f32("latents", "noise", usize::from(sampler.draws()) * images * values),
            scaled: plan.f32("latents", "scaled", decoded * values),
            picture: plan.f32("decoder", "pictures", decoded * picture),
        };
        Ok((0..lanes).map(lane).collect())
    }
}

/// Latents decoded in one call.
fn at_once(latent: (usize, usize)) -> usize {
    (DECODE_PIXELS / (latent.0 * latent.1)).max(1)
}
