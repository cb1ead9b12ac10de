//! Samplers as coefficient tables over the schedule a diffusers folder describes.

mod ddim;
mod schedule;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use ddim::Ddim;
pub use schedule::{BetaSchedule, PredictionType, SchedulerConfig, TimestepSpacing};

/// The samplers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplerKind {
    /// Denoising diffusion implicit models with eta 0 (Song et al. 2021), the paper's.
    Ddim,
}

/// Classifier-free guidance in place: `eps ← eps + w·(cond − eps)`, where `eps` comes in as the unconditional prediction
/// (Ho and Salimans 2022; diffusers' sign convention: w = 1 is purely conditional).
pub fn guide(eps: &mut [f32], cond: &[f32], w: f32) {
    assert_eq!(eps.len(), cond.len(), "guidance: branches differ in length");
    for (eps, &cond) in eps.iter_mut().zip(cond) {
        *eps += w * (cond - *eps);
    }
}
