//! How pictures are drawn.

use serde::{Deserialize, Serialize};

use super::interval::Interval;
use super::limits::{check_scale, within};
use super::sampler::{SamplerKind, TimestepSpacing};
use crate::error::Result;

/// What decides a picture beside its model, caption, image index and device. One list for the flags of every command
/// that draws, for what an output folder and a calibration record, and for what a pipeline is opened for.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
pub struct Drawing {
    /// How noise becomes an image
    #[arg(long, value_enum, default_value_t = Self::default().sampler)]
    pub sampler: SamplerKind,
    /// Denoising steps
    #[arg(long, value_name = "N", default_value_t = Self::default().steps)]
    pub steps: usize,
    /// Classifier-free guidance w; 1 and less follow the caption without it, as in diffusers, and cost half (paper: 2
    /// for StableRep, 8 for SimCLR)
    #[arg(long, short = 'w', value_name = "W", default_value_t = Self::default().guidance_scale)]
    pub guidance_scale: f32,
    /// Guide only from A to B of the run, shares from 0 to 1 such as 0.2,0.8: of N calls those from A·N on, rounded down,
    /// to before B·N; the others follow the caption alone and cost half [default: all]
    #[arg(long, value_name = "A,B")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<Interval>,
    /// Which training steps are visited; few-step models ask for trailing [default: the scheduler config's]
    #[arg(long, value_enum, value_name = "SPACING")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Compute the network whole in every Nth call only, and in the first that is guided; the others reuse what lies below
    /// its last block, at a tenth of the work (DeepCache; 2 to 5 are usual) [default: 1, every call]
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_every: Option<usize>,
    /// Text of the unconditional branch, which scales of 1 and less have not
    #[arg(long, value_name = "TEXT", default_value_t = Self::default().negative_prompt)]
    pub negative_prompt: String,
    /// Seed of the initial noise; an image is (seed, caption number, image index)
    #[arg(long, value_name = "S", default_value_t = Self::default().seed)]
    pub seed: u64,
    /// Pixels drawn, a multiple of 8 [default: the model's own size]
    #[arg(long, value_name = "PX")]
    pub width: Option<usize>,
    /// Pixels drawn, a multiple of 8 [default: the model's own size]
    #[arg(long, value_name = "PX")]
    pub height: Option<usize>,
}

/// What the flags are where nobody gives any.
impl Default for Drawing {
    fn default() -> Self {
        Self {
            sampler: SamplerKind::Ddim,
            steps: 50,
            guidance_scale: 2.0,
            guidance_interval: None,
            timestep_spacing: None,
            cache_every: None,
            negative_prompt: String::new(),
            seed: 0,
            width: None,
            height: None,
        }
    }
}

impl Drawing {
    /// Refuses numbers that no drawing can have, before anything is read.
    ///
    /// # Errors
    /// Usage error that names the flag.
    pub fn check(&self) -> Result<()> {
        within("--steps", self.steps, 1, 1_000_000)?;
        if let Some(every) = self.cache_every {
            within("--cache-every", every, 1, 1_000)?;
        }
        for (name, size) in [("--width", self.width), ("--height", self.height)] {
            if let Some(size) = size {
                within(name, size, 8, 4_096)?;
            }
        }
        check_scale("--guidance-scale", self.guidance_scale)
    }

    /// The same with another guidance scale.
    pub fn guided_by(&self, guidance_scale: f32) -> Self {
        Self { guidance_scale, ..self.clone() }
    }

    /// The same with its size said, and nothing that says no more than its absence.
    pub fn sized(&self, (width, height): (usize, usize)) -> Self {
        Self {
            width: Some(width),
            height: Some(height),
            guidance_interval: self.guidance_interval.filter(|interval| !interval.is_all()),
            cache_every: self.cache_every.filter(|&every| every > 1),
            ..self.clone()
        }
    }
}

/// Whether a scale guides at all. As in diffusers, one of 1 or less does not: the caption alone is followed.
pub(super) fn guides(w: f32) -> bool {
    w > 1.0
}
