//! The images one thread draws: their memory, their way through all steps, their decoding.

use std::sync::Arc;

use super::pipeline::{Decoded, Text};
use super::sampler::Sampler;
use crate::device::Plan;
use crate::error::Result;
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
    /// Latents, NHWC.
    x: Vec<f32>,
    /// What the UNet is given.
    input: Vec<f32>,
    /// Model outputs of both branches.
    eps: Vec<f32>,
    /// Outputs that the sampler remembers.
    history: Vec<f32>,
    /// Noise that the sampler adds.
    noise: Vec<f32>,
    /// Decoded pictures.
    picture: Vec<f32>,
}

/// What all lanes share while they sample.
pub(super) struct Job<'a> {
    pub unet: &'a UNet<Cpu>,
    pub sampler: &'a Sampler,
    pub table: &'a [Vec<f32>],
    /// The branch without caption and the scale w.
    pub unconditional: Option<(&'a Caption, f32)>,
    pub latent: (usize, usize),
    pub threads: Threads,
}

impl Lane {
    /// # Errors
    /// An interruption when a signal arrived.
    pub(super) fn sample(
        &mut self,
        job: &Job<'_>,
        (texts, keys): (&[Text], &[NoiseKey]),
        latents: &mut [f32],
        on_step: &mut dyn FnMut(usize),
    ) -> Result<()> {
        let (n, pixels) = (texts.len(), job.latent.0 * job.latent.1);
        let x = &mut self.x[..latents.len()];
        to_nhwc(x, latents, n, pixels);
        x.iter_mut().for_each(|x| *x *= job.sampler.initial());
        let input = &mut self.input[..x.len()];
        input.iter_mut().zip(&*x).for_each(|(input, x)| *input = job.sampler.first_input() * x);
        let history = &mut self.history[..job.sampler.slots() * x.len()];
        let mut runs: Vec<(usize, &Caption)> = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match runs.last_mut() {
                Some((count, _)) if Arc::ptr_eq(&text.context, &texts[i - 1].context) => *count += 1,
                _ => runs.push((1, &text.context)),
            }
        }
        runs.extend(job.unconditional.map(|(context, _)| (n, context)));
        let rows = runs.iter().map(|run| run.0).sum();
        let eps = &mut self.eps[..latents.len() / n * rows];
        for (call, (step, time)) in job.sampler.steps().iter().zip(job.table).enumerate() {
            let captions = &runs[..];
            let mut on = Call { input, output: eps, time, captions, ..Call::new(&mut self.unet, job.threads) };
            job.unet.forward(&mut on, (n, rows), job.latent)?;
            let (conditional, other) = eps.split_at(x.len());
            let unconditional = job.unconditional.map(|(_, w)| (other, w));
            let noise: &mut [f32] = if step.noise == 0.0 { &mut [] } else { &mut self.noise[..x.len()] };
            for (z, key) in noise.chunks_exact_mut(x.len() / n).zip(keys) {
                key.draw(call as u32, z);
            }
            sampler_step::advance(State { x, input, history, noise }, conditional, unconditional, step);
            on_step(call + 1);
            store::check_interrupt("run the same command again to go on")?;
        }
        from_nhwc(latents, x, n, pixels);
        Ok(())
    }

    pub(super) fn decode(
        &mut self,
        decoder: &Decoder<Cpu>,
        latents: &[f32],
        size: (usize, usize),
        threads: Threads,
    ) -> Result<Vec<Decoded>> {
        let config = decoder.config();
        let (scale, factor) = (config.scaling_factor as f32, config.factor());
        let (height, width) = (size.0 * factor, size.1 * factor);
        let values = config.latent_channels * size.0 * size.1;
        let mut out = Vec::new();
        for latents in latents.chunks(at_once(size) * values) {
            let n = latents.len() / values;
            let x = &mut self.x[..latents.len()];
            to_nhwc(x, latents, n, size.0 * size.1);
            x.iter_mut().for_each(|x| *x /= scale);
            let picture = &mut self.picture[..n * height * width * config.out_channels];
            let mut call = Call { input: x, output: picture, ..Call::new(&mut self.decoder, threads) };
            decoder.decode(&mut call, n, size)?;
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

/// Lanes for batches of up to `batch` images: one per thread, or one in all when there are fewer images than threads.
pub(super) fn lanes(
    plan: &mut Plan,
    (unet, sampler, decoder): (&UNet<Cpu>, &Sampler, &Decoder<Cpu>),
    batch: usize,
    branches: usize,
    latent: (usize, usize),
) -> Result<Vec<Lane>> {
    let threads = rayon::current_num_threads();
    let lanes = if batch >= threads { threads } else { 1 };
    let images = batch.div_ceil(lanes);
    let pixels = latent.0 * latent.1;
    let config = decoder.config();
    let decoded = images.min(at_once(latent));
    let values = images * pixels * config.latent_channels;
    let sampling = unet.config().rooms(Processor::Cpu, images, images * branches, latent)?;
    let decoding = config.rooms(Processor::Cpu, decoded, latent)?;
    let lane = |_| Lane {
        unet: Memory::take(plan, "unet", &sampling),
        decoder: Memory::take(plan, "decoder", &decoding),
        x: plan.f32("latents", "latents", values),
        input: plan.f32("latents", "inputs", values),
        eps: plan.f32("latents", "predictions", branches * values),
        history: plan.f32("latents", "history", sampler.slots() * values),
        noise: plan.f32("latents", "noise", usize::from(sampler.draws()) * values),
        picture: plan.f32("decoder", "pictures", decoded * pixels * config.factor().pow(2) * config.out_channels),
    };
    Ok((0..lanes).map(lane).collect())
}

/// Latents decoded in one call.
fn at_once(latent: (usize, usize)) -> usize {
    (DECODE_PIXELS / (latent.0 * latent.1)).max(1)
}

/// `[n, C, pixels]` → `[n, pixels, C]`.
pub(super) fn to_nhwc(y: &mut [f32], x: &[f32], n: usize, pixels: usize) {
    let channels = x.len() / n / pixels;
    for (y, x) in y.chunks_exact_mut(channels * pixels).zip(x.chunks_exact(channels * pixels)) {
        for (i, value) in y.iter_mut().enumerate() {
            *value = x[i % channels * pixels + i / channels];
        }
    }
}

/// `[n, pixels, C]` → `[n, C, pixels]`.
pub(super) fn from_nhwc(y: &mut [f32], x: &[f32], n: usize, pixels: usize) {
    to_nhwc(y, x, n, x.len() / n / pixels);
}
