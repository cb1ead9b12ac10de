//! An image and the parameters of a view → the normalised view.

use crate::error::Result;
use crate::image::{Filter, Resampler, Rgb8};
use crate::ops::augment::{AugmentParams, Normalize, short_side};
use crate::ops::blur;

/// Makes views; holds the memory that they reuse.
#[derive(Debug, Default)]
pub struct Augmenter {
    resampler: Resampler,
    normalize: Normalize,
    blur: blur::Scratch,
    pixels: Vec<u8>,
}

impl Augmenter {
    /// The view of `image` as `[side, side, 3]` u8, before normalisation.
    pub fn pixels(&mut self, image: &Rgb8, params: &AugmentParams, side: usize) -> Result<&[u8]> {
        let downsampled = match params.downsample {
            Some((low, high)) => Some(self.short_side(&self.short_side(image, low)?, high)?),
            None => None,
        };
        let image = downsampled.as_ref().unwrap_or(image);
        self.resampler.crop(&mut self.pixels, (side, side), image, params.crop, params.filter)?;
        params.apply(&mut self.pixels, side, &mut self.blur);
        Ok(&self.pixels)
    }

    /// The view as `out` `[side, side, 3]` f32, by ImageNet's mean and standard deviation.
    pub fn view(&mut self, out: &mut [f32], image: &Rgb8, params: &AugmentParams, side: usize) -> Result<()> {
        self.pixels(image, params, side)?;
        self.normalize.apply(out, &self.pixels);
        Ok(())
    }

    fn short_side(&self, image: &Rgb8, side: usize) -> Result<Rgb8> {
        let (width, height) = short_side((image.width, image.height), side);
        crate::image::resize(image, width, height, Filter::Bilinear)
    }
}
