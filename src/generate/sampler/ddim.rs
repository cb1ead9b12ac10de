//! DDIM with eta 0 (Song et al. 2021, arXiv 2010.02502, eq. 12), as two 2×2 tables per step.
//!
//! Whatever the UNet predicts, x0 and eps are linear in (x, prediction), and the next latent is linear in (x0, eps);
//! only clipping x0 in between keeps the two from being one product.

use super::schedule::{PredictionType, SchedulerConfig};
use crate::error::Result;
use crate::ops::sampler_step;

/// The coefficients of one step.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// x0 = x0.0·x + x0.1·prediction.
    x0: (f64, f64),
    /// eps = eps.0·x + eps.1·prediction.
    eps: (f64, f64),
    /// next = next.0·x0 + next.1·eps.
    next: (f64, f64),
}

/// The steps of one run.
#[derive(Clone, Debug)]
pub struct Ddim {
    timesteps: Vec<usize>,
    table: Vec<Step>,
    /// Bound of |x0| when the config clips it.
    clip: Option<f32>,
}

impl Ddim {
    /// The table for `steps` steps. `Error::Usage` if the schedule has fewer.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let timesteps = config.timesteps(steps)?;
        let alphas = config.alphas_cumprod();
        let final_alpha = if config.set_alpha_to_one { 1.0 } else { alphas[0] };
        let stride = config.num_train_timesteps / steps;
        let table = timesteps
            .iter()
            .map(|&t| {
                let (now, then) = (alphas[t], t.checked_sub(stride).map_or(final_alpha, |previous| alphas[previous]));
                let (signal, noise) = (now.sqrt(), (1.0 - now).sqrt());
                let (x0, eps) = match config.prediction_type {
                    PredictionType::Epsilon => ((1.0 / signal, -noise / signal), (0.0, 1.0)),
                    PredictionType::Sample => ((0.0, 1.0), (1.0 / noise, -signal / noise)),
                    PredictionType::VPrediction => ((signal, -noise), (noise, signal)),
                };
                Step { x0, eps, next: (then.sqrt(), (1.0 - then).sqrt()) }
            })
            .collect();
        Ok(Self { timesteps, table, clip: config.clip_sample.then_some(config.clip_sample_range) })
    }

    /// Training steps in the order visited.
    pub fn timesteps(&self) -> &[usize] {
        &self.timesteps
    }

    /// (a, b) of `x' = a·x + b·prediction` at step `i`; `None` when x0 is clipped in between.
    pub fn linear(&self, i: usize) -> Option<(f64, f64)> {
        let Step { x0, eps, next } = self.table[i];
        self.clip.is_none().then_some((next.0 * x0.0 + next.1 * eps.0, next.0 * x0.1 + next.1 * eps.1))
    }

    /// Step `i` as the op takes it: `x` becomes the latent at the next, less noisy step.
    pub fn coefficients(&self, i: usize) -> sampler_step::Step {
        let Step { x0, eps, next } = self.table[i];
        let pair = |(x, prediction): (f64, f64)| (x as f32, prediction as f32);
        match (self.linear(i), self.clip) {
            (Some(linear), _) => {
                let (a, b) = pair(linear);
                sampler_step::Step::Linear { a, b }
            }
            (None, limit) => {
                let ((clean, noise), limit) = (pair(next), limit.unwrap_or(f32::INFINITY));
                sampler_step::Step::Clipped { x0: pair(x0), eps: pair(eps), clean, noise, limit }
            }
        }
    }
}
