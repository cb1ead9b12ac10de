//! DPM-Solver++ of order 2, multistep with the midpoint rule (Lu et al. 2022, arXiv 2211.01095, algorithm 2), over the
//! schedule's own steps or over Karras' noise levels (arXiv 2206.00364, eq. 5, rho = 7). The last step goes to noise
//! zero, and is of order 1, as the first is.
//!
//! With signal² + noise² = 1 and lambda = ln(signal/noise), exp(−h) is a ratio of noise levels: no logarithm meets the
//! last level, 0.

use super::kind::{SamplerKind, TimestepSpacing};
use super::schedule::SchedulerConfig;
use super::table::{Row, Sampler};
use crate::bail;
use crate::error::Result;

const RHO: f64 = 7.0;

pub(super) fn table(config: &SchedulerConfig, steps: usize, karras: bool) -> Result<Sampler> {
    let levels = config.sigmas();
    let (timesteps, sigmas): (Vec<usize>, Vec<f64>) = if karras {
        let [high, low] = [levels[levels.len() - 1], levels[0]].map(|sigma| sigma.powf(1.0 / RHO));
        let gap = if steps == 1 { 0.0 } else { 1.0 / (steps - 1) as f64 };
        (0..steps)
            .map(|i| (high + i as f64 * gap * (low - high)).powf(RHO))
            .map(|sigma| (nearest_step(&levels, sigma), sigma))
            .unzip()
    } else {
        timesteps(config, SamplerKind::Dpmpp2m, steps)?.into_iter().map(|t| (t, levels[t])).unzip()
    };
    let rows = timesteps.iter().enumerate().map(|(i, &t)| {
        let sigma = sigmas[i];
        let (signal, noise) = split(sigma);
        let (next_signal, next_noise) = sigmas.get(i + 1).map_or((1.0, 0.0), |&next| split(next));
        let (x0, _) = config.prediction_type.parts(signal, noise);
        // next_signal·(1 − exp(−h)).
        let step = next_signal - signal * next_noise / noise;
        let mut row = Row { d: x0, now: step, keep: Some(0), ..Row::linear(t as f64, (next_noise / noise, 0.0)) };
        if i > 0 && i + 1 < steps {
            // h of this step over that of the last, halved; lambda = −ln sigma.
            let slope = (sigma / sigmas[i + 1]).ln() / (sigmas[i - 1] / sigma).ln() / 2.0;
            row.now = step * (1.0 + slope);
            row.kept[0] = -step * slope;
        }
        row
    });
    Ok(Sampler::of(1.0, rows.collect()))
}

/// (signal, noise) of a level.
pub(super) fn split(sigma: f64) -> (f64, f64) {
    (1.0 / (sigma * sigma + 1.0).sqrt(), sigma / (sigma * sigma + 1.0).sqrt())
}

/// The training steps visited: one more is laid out than is taken, as the last goes to noise zero.
pub(super) fn timesteps(config: &SchedulerConfig, kind: SamplerKind, steps: usize) -> Result<Vec<usize>> {
    let n = config.num_train_timesteps;
    let timesteps: Vec<usize> = match config.timestep_spacing.unwrap_or(kind.own_spacing()) {
        TimestepSpacing::Trailing => config.timesteps(steps, TimestepSpacing::Trailing)?,
        TimestepSpacing::Leading => (1..=steps).rev().map(|i| i * (n / (steps + 1)) + config.steps_offset).collect(),
        TimestepSpacing::Linspace => {
            let gap = (n - 1) as f64 / steps as f64;
            (1..=steps).rev().map(|i| (i as f64 * gap).round_ties_even() as usize).collect()
        }
    };
    if timesteps.windows(2).any(|pair| pair[0] <= pair[1]) {
        bail!(Usage, "--sampler {kind} --steps {steps}: expected fewer than {n}, the training steps of this model");
    }
    config.check_first(steps, &timesteps)?;
    Ok(timesteps)
}

/// The training step whose noise is nearest to `sigma` in logarithm.
fn nearest_step(levels: &[f64], sigma: f64) -> usize {
    let high = levels.partition_point(|&level| level <= sigma).clamp(1, levels.len() - 1);
    let [below, above, sigma] = [levels[high - 1], levels[high], sigma].map(f64::ln);
    let share = ((sigma - below) / (above - below)).clamp(0.0, 1.0);
    ((high - 1) as f64 + share).round_ties_even() as usize
}
