//! Euler's method over noise levels sigma (Karras et al. 2022, arXiv 2206.00364, algorithm 1 without churn), and its
//! ancestral form, which steps further down and adds noise (after Song et al. 2021, arXiv 2011.13456, as in
//! k-diffusion).
//!
//! The latent is x = x0 + sigma·eps; the network sees it scaled to variance one, and dx/dsigma is eps, the noise it
//! predicts.

use super::kind::{SamplerKind, TimestepSpacing};
use super::schedule::SchedulerConfig;
use super::table::{Row, Sampler};
use crate::error::Result;

pub(super) fn table(config: &SchedulerConfig, steps: usize, ancestral: bool) -> Result<Sampler> {
    let spacing = config.timestep_spacing.unwrap_or(SamplerKind::Euler.own_spacing());
    let timesteps = match spacing {
        TimestepSpacing::Linspace => {
            let gap = if steps == 1 { 0.0 } else { (config.num_train_timesteps - 1) as f64 / (steps - 1) as f64 };
            (0..steps).rev().map(|i| f64::from((i as f64 * gap) as f32)).collect()
        }
        _ => config.timesteps(steps, spacing)?.into_iter().map(|t| t as f64).collect::<Vec<_>>(),
    };
    let levels = config.sigmas();
    let sigmas: Vec<f64> = timesteps.iter().map(|&t| between(&levels, t)).collect();
    let rows = timesteps.iter().enumerate().map(|(i, &t)| {
        let (sigma, next) = (sigmas[i], sigmas.get(i + 1).copied().unwrap_or(0.0));
        let up = if ancestral { (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt() } else { 0.0 };
        let step = (next * next - up * up).sqrt() - sigma;
        let input = 1.0 / (sigma * sigma + 1.0).sqrt();
        let (_, eps) = config.prediction_type.parts(input, sigma * input);
        Row { input, noise: up, ..Row::linear(t, (1.0 + step * eps.0 * input, step * eps.1)) }
    });
    let largest = sigmas[0];
    let initial = if spacing == TimestepSpacing::Leading { (largest * largest + 1.0).sqrt() } else { largest };
    Ok(Sampler::of(initial, rows.collect()))
}

/// `levels` at a step that need not be whole.
fn between(levels: &[f64], t: f64) -> f64 {
    let low = t as usize;
    let high = (low + 1).min(levels.len() - 1);
    levels[low] + (t - low as f64) * (levels[high] - levels[low])
}
