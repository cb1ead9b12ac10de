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
