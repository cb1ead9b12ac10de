//! A batch to draw.

use super::pipeline::{Pipeline, Text};
use crate::error::Result;
use crate::ops::sampler_step::NoiseKey;
use crate::rng::{Domain, Stream};

/// A batch to draw. Adjacent images of one caption share its products.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caption of each image.
    pub texts: Vec<Text>,
    /// What the sampler's own noise is keyed by.
    pub keys: Vec<NoiseKey>,
    /// Unit noise `[n, C, h, w]`.
    pub latents: Vec<f32>,
    /// w; one that does not guide, in a pipeline that was opened without guidance.
    pub guidance_scale: f32,
}

impl Request {
    /// One image of each of `captions`, from the noise of its key.
    pub fn new(pipeline: &Pipeline, captions: &[&str], keys: Vec<NoiseKey>, guidance_scale: f32) -> Result<Self> {
        let values: usize = pipeline.latent_shape().iter().product();
        let mut latents = vec![0.0; keys.len() * values];
        latents.chunks_exact_mut(values).zip(&keys).for_each(|(latent, &key)| unit_noise(key, latent));
        Ok(Self { texts: pipeline.encode_texts(captions)?, keys, latents, guidance_scale })
    }
}

/// Whether a scale guides at all. As in diffusers, one of 1 or less does not: the caption alone is followed.
pub(super) fn guides(w: f32) -> bool {
    w > 1.0
}

/// N(0, 1) keyed by (seed, caption id, image index).
pub(super) fn unit_noise(NoiseKey { seed, caption, image }: NoiseKey, latent: &mut [f32]) {
    Stream::new(seed, Domain::InitialNoise, [caption, image, 0]).fill_normal(latent);
}
