//! What the json of a sample says of how it was drawn.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::drawing::Drawing;
use super::interval::Interval;
use super::limits::within;
use super::sampler::{SamplerKind, TimestepSpacing};
use super::settings::Precision;
use crate::error::{Error, Result};

/// Written as it stands, not by way of a `Value`, where an f32 of 2.1 is 2.0999999046325684. The fields of [`Drawing`]
/// stand one by one: the order is that of every folder so far, and `width` and `height` are the stored picture's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(default)]
    pub key: Cow<'a, str>,
    pub caption_id: u32,
    pub image_index: u32,
    pub caption: Cow<'a, str>,
    pub seed: u64,
    pub guidance_scale: f32,
    pub steps: usize,
    pub sampler: SamplerKind,
    pub width: usize,
    pub height: usize,
    pub generated_width: usize,
    pub generated_height: usize,
    pub negative_prompt: Cow<'a, str>,
    pub model_sha256: Cow<'a, str>,
    #[serde(default)]
    pub precision: Precision,
    #[serde(default)]
    pub truncated_tokens: usize,
    #[serde(default)]
    pub flags: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption_key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp8_sha256: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_noise_sha256: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<Interval>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestep_spacing: Option<TimestepSpacing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_every: Option<usize>,
}

impl Record<'_> {
    /// How the sample was drawn.
    pub(super) fn drawing(&self) -> Drawing {
        Drawing {
            sampler: self.sampler,
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            guidance_interval: self.guidance_interval,
            timestep_spacing: self.timestep_spacing,
            cache_every: self.cache_every,
            negative_prompt: self.negative_prompt.clone().into_owned(),
            seed: self.seed,
            width: Some(self.generated_width),
            height: Some(self.generated_height),
        }
    }

    /// Refuses numbers that no drawing has had, in the record of sample `name`.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let sides = [self.width, self.height, self.generated_width, self.generated_height];
        let drawn = sides.iter().try_for_each(|&side| within("a width or height of", side, 1, 4_096));
        drawn
            .and_then(|()| self.drawing().check())
            .map_err(|e| Error::Data(format!("{name}.json: no record of generate's: {e}")))
    }
}
