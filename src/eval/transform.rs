//! From a photograph of any size to the square the encoder takes: at test time, and the paper's augmentation of the probe's
//! training images.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::image::{Filter, Resampler, Rgb8, resize};
use crate::ops::augment::{self, Augment, AugmentParams, Policy, short_side};
use crate::rng::Stream;

/// How a photograph becomes S×S.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Short side to the resize length, then the S×S in the middle.
    Crop,
    /// Both sides to S: everything stays visible, proportions do not.
    Stretch,
    /// On black, in the middle: photographs smaller than S keep their pixels (28×28 digits in 32×32), larger ones shrink until they fit.
    Pad,
}

/// The test transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transform {
    /// S, the encoder's image side in pixels.
    pub size: usize,
    pub fit: Fit,
    /// Length of the short side before the crop ([`Fit::Crop`] only).
    pub resize: usize,
}

/// From this image side on, the default is the paper's resize to 256/224 of it; smaller encoders look at whole pictures.
const LARGE: usize = 128;

impl Transform {
    /// `resize` defaults to the paper's 256 for 224 pixels, S·256/224 rounded, for encoders of 128 pixels and more, and to S below.
    ///
    /// # Errors
    /// `Usage` when `resize` is shorter than S or given for another fit than the crop.
    pub fn new(size: usize, fit: Fit, resize: Option<usize>) -> Result<Self> {
        let default = if size >= LARGE { (size * 256 + 112) / 224 } else { size };
        match (fit, resize) {
            (Fit::Stretch | Fit::Pad, Some(_)) => {
                bail!(Usage, "--resize: goes with --fit crop only")
            }
            (Fit::Crop, Some(resize)) if resize < size || resize > crate::image::MAX_SIDE => {
                bail!(
                    Usage,
                    "--resize {resize}: expected {size} (the encoder's image side) to {}",
                    crate::image::MAX_SIDE
                )
            }
            _ => Ok(Self { size, fit, resize: resize.unwrap_or(default) }),
        }
    }

    /// `image` as S×S, bilinear and antialiased like Pillow; rounding of sides and offsets as torchvision.
    ///
    /// # Errors
    /// Whatever the resize refuses.
    pub fn apply(&self, image: &Rgb8) -> Result<Rgb8> {
        let size = self.size;
        match self.fit {
            Fit::Crop => {
                let (width, height) = short_side((image.width, image.height), self.resize);
                let image = resize(image, width, height, Filter::Bilinear)?;
                let offset = |side: usize| ((side - size) as f64 / 2.0).round_ties_even() as usize;
                Ok(crop(&image, offset(width), offset(height), size))
            }
            Fit::Stretch => resize(image, size, size, Filter::Bilinear),
            Fit::Pad => {
                let long = image.width.max(image.height);
                let side = |length: usize| if long <= size { length } else { (length * size).div_ceil(long).min(size) };
                let image = resize(image, side(image.width), side(image.height), Filter::Bilinear)?;
                Ok(pad(&image, size))
            }
        }
    }
}

/// The paper's augmentation of the probe's training images: a random resized crop (area 0.08–1 of the picture, ratio 3/4–4/3,
/// bilinear) and a flip with odds ½.
///
/// # Errors
/// Whatever the resize refuses.
pub fn crop_flip(image: &Rgb8, size: usize, stream: &mut Stream) -> Result<Rgb8> {
    let augment = Augment { policy: Policy::Weak, crop_scale: Policy::Strong.crop_scale(), downsample: false };
    let params = AugmentParams::draw(stream, &augment, image.width, image.height);
    let mut data = vec![0; 3 * size * size];
    Resampler::default().crop(&mut data, (size, size), image, params.crop, Filter::Bilinear)?;
    if params.flip {
        augment::flip(&mut data, size);
    }
    Ok(Rgb8 { width: size, height: size, data })
}

/// The `size`×`size` part of `image` whose top left corner is (`left`, `top`).
fn crop(image: &Rgb8, left: usize, top: usize, size: usize) -> Rgb8 {
    let rows = (top..top + size).flat_map(|y| &image.row(y)[3 * left..3 * (left + size)]);
    Rgb8 { width: size, height: size, data: rows.copied().collect() }
}

/// `image` in the middle of a black `size`×`size`; an odd margin is wider at the right and bottom.
fn pad(image: &Rgb8, size: usize) -> Rgb8 {
    let mut out = Rgb8::filled(size, size, [0; 3]);
    let (left, top) = ((size - image.width) / 2, (size - image.height) / 2);
    for y in 0..image.height {
        let start = 3 * ((top + y) * size + left);
        out.data[start..start + 3 * image.width].copy_from_slice(image.row(y));
    }
    out
}
