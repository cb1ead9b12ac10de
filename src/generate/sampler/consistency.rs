//! Samplers of networks that were distilled to a few steps: latent consistency (Luo et al. 2023, arXiv 2310.04378,
//! algorithm 3) and trajectory consistency (Zheng et al. 2024, arXiv 2402.19159, algorithm 1, its strategic stochastic
//! sampling).
//!
//! Both visit steps of the solver that the network was distilled from, whatever the schedule's spacing is.

use super::kind::SamplerKind;
use super::schedule::SchedulerConfig;
use super::table::{Row, Sampler};
use crate::bail;
use crate::error::Result;

/// Standard deviation of the data in the boundary condition, diffusers' constant.
const SIGMA_DATA: f64 = 0.5;

/// How far beyond the next step a step of trajectory consistency goes, as a share of it: the paper's gamma, diffusers'
/// eta.
const ETA: f64 = 0.3;

/// Each step goes to the clean image, but for the boundary condition, and from there into noise again.
pub(super) fn latent(config: &SchedulerConfig, steps: usize) -> Result<Sampler> {
    let timesteps = visited(config, SamplerKind::Lcm, steps)?;
    let scaling = config.settings.positive("timestep_scaling", 10.0)?;
    let alphas = config.alphas_cumprod();
    let rows = timesteps.iter().enumerate().map(|(i, &t)| {
        let (x0, _) = config.prediction_type.parts(alphas[t].sqrt(), (1.0 - alphas[t]).sqrt());
        let (signal, noise) =
            timesteps.get(i + 1).map_or((1.0, 0.0), |&next| (alphas[next].sqrt(), (1.0 - alphas[next]).sqrt()));
        let scaled = t as f64 * scaling;
        let whole = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let (skip, out) = (signal * SIGMA_DATA * SIGMA_DATA / whole, signal * scaled / whole.sqrt());
        let row = if config.clips(SamplerKind::Lcm) {
            let row = Row::linear(t as f64, (skip, 0.0));
            Row { d: x0, limit: f64::from(config.clip_sample_range), now: out, ..row }
        } else {
            Row::linear(t as f64, (out * x0.0 + skip, out * x0.1))
        };
        Row { noise, ..row }
    });
    Ok(Sampler::of(1.0, rows.collect()))
}

/// Each step goes beyond the next one, and part of the way back into noise.
pub(super) fn trajectory(config: &SchedulerConfig, steps: usize) -> Result<Sampler> {
    let timesteps = visited(config, SamplerKind::Tcd, steps)?;
    let alphas = config.alphas_cumprod();
    let rows = timesteps.iter().enumerate().map(|(i, &t)| {
        let (x0, eps) = config.prediction_type.parts(alphas[t].sqrt(), (1.0 - alphas[t]).sqrt());
        let next = timesteps.get(i + 1).copied();
        // In f32, as diffusers has it: it decides which training step a product just below a whole number is.
        let beyond = alphas[((1.0 - ETA) as f32 * next.unwrap_or(0) as f32) as usize];
        // Of what is left of the signal beyond, the next step has this share.
        let share = next.map_or(1.0, |next| alphas[next] / beyond);
        let (signal, noise) = ((beyond * share).sqrt(), ((1.0 - beyond) * share).sqrt());
        let row = Row::linear(t as f64, (signal * x0.0 + noise * eps.0, signal * x0.1 + noise * eps.1));
        Row { noise: (1.0 - share).sqrt(), ..row }
    });
    Ok(Sampler::of(1.0, rows.collect()))
}

/// The training steps visited, noisiest first: of those that the network was distilled at, evenly.
fn visited(config: &SchedulerConfig, kind: SamplerKind, steps: usize) -> Result<Vec<usize>> {
    let (settings, n) = (&config.settings, config.num_train_timesteps);
    let known = settings.count("original_inference_steps", Some(50))?;
    if known > n {
        return Err(settings.wrong("original_inference_steps", &format!("at most {n}, the model's training steps")));
    }
    if steps > known {
        bail!(
            Usage,
            "--sampler {kind} --steps {steps}: expected at most {known}, the steps that such a network is distilled at; 2 to 8 \
             are usual"
        );
    }
    let apart = known as f64 / steps as f64;
    Ok((0..steps).map(|i| (known - (i as f64 * apart) as usize) * (n / known) - 1).collect())
}
