//! From a photograph of any size to the square the encoder takes: at test time, and the paper's augmentation of the
//! probe's training images.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::image::{Filter, MAX_SIDE, Resampler, Rgb8, resize, resize_window};
use crate::models::vit::{CropMode, Preprocessing};
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
    /// On black, in the middle: photographs smaller than S keep their pixels (28×28 digits in 32×32), larger ones
    /// shrink until they fit.
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
    #[serde(rename = "interpolation", skip_serializing_if = "is_bilinear", default)]
    pub filter: Filter,
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, resize, .. } = self;
        match self.fit {
            Fit::Crop => write!(f, "short side to {resize}, centre {size}×{size}"),
            Fit::Stretch => write!(f, "stretched to {size}×{size}"),
            Fit::Pad => write!(f, "padded to {size}×{size}"),
        }?;
        match self.filter {
            Filter::Bilinear => Ok(()),
            other => write!(f, ", {}", format!("{other:?}").to_lowercase()),
        }
    }
}

fn is_bilinear(filter: &Filter) -> bool {
    *filter == Filter::Bilinear
}

/// What weights that say nothing about it are prepared for: the paper's bilinear resize to 256 for 224 pixels, from
/// this image side on; smaller encoders look at whole pictures.
const LARGE: usize = 128;

/// 224/256.
const CROP_PCT: f64 = 0.875;

impl Transform {
    /// What is not given is as `told` by the weights, otherwise [`Fit::Crop`], bilinear, and a resize to the paper's
    /// 256 for 224 pixels, ⌊S/0.875⌋, for encoders of 128 pixels and more, and to S below.
    ///
    /// # Errors
    /// `Usage` when `resize` is shorter than S or given for another fit than the crop; `Data` for a way that is told
    /// but not done here.
    pub fn new(size: usize, fit: Option<Fit>, resize: Option<usize>, told: Option<Preprocessing>) -> Result<Self> {
        let crop_pct = if size >= LARGE { CROP_PCT } else { 1.0 };
        let ours = Preprocessing { crop_pct, mode: CropMode::Center, filter: Filter::Bilinear };
        let told = told.unwrap_or(ours);
        let fit = fit.map_or_else(|| stated_fit(&told, size), Ok)?;
        match (fit, resize) {
            (Fit::Stretch | Fit::Pad, Some(_)) => {
                bail!(Usage, "--resize: goes with --fit crop only")
            }
            (Fit::Crop, Some(resize)) if resize < size || resize > MAX_SIDE => {
                bail!(Usage, "--resize {resize}: expected {size} (the encoder's image side) to {MAX_SIDE}")
            }
            _ => {
                let resize = resize.map_or_else(|| told.resize(size), Ok)?;
                Ok(Self { size, fit, resize, filter: told.filter })
            }
        }
    }

    /// `image` as S×S, antialiased like Pillow; rounding of sides and offsets as torchvision.
    ///
    /// # Errors
    /// Whatever the resize refuses.
    pub fn apply(&self, image: &Rgb8) -> Result<Rgb8> {
        let size = self.size;
        match self.fit {
            Fit::Crop => {
                let (width, height) = short_side((image.width, image.height), self.resize);
                let offset = |side: usize| ((side - size) as f64 / 2.0).round_ties_even() as usize;
                let (left, top) = (offset(width), offset(height));
                resize_window(image, (width, height), [left, top, left + size, top + size], self.filter)
            }
            Fit::Stretch => resize(image, size, size, self.filter),
            Fit::Pad => {
                let long = image.width.max(image.height);
                let side = |length: usize| if long <= size { length } else { (length * size).div_ceil(long).min(size) };
                let image = resize(image, side(image.width), side(image.height), self.filter)?;
                Ok(pad(&image, size))
            }
        }
    }
}

/// The fit that is timm's way to a square of `size`.
fn stated_fit(told: &Preprocessing, size: usize) -> Result<Fit> {
    match told.mode {
        CropMode::Center => Ok(Fit::Crop),
        CropMode::Squash if told.resize(size)? == size => Ok(Fit::Stretch),
        CropMode::Squash | CropMode::Border => bail!(
            Data,
            "the weights' config.json asks for crop_mode {} with crop_pct {}, which is not done here; give --fit crop, stretch or pad",
            if told.mode == CropMode::Border { "border" } else { "squash" },
            told.crop_pct
        ),
    }
}

/// The paper's augmentation of the probe's training images: a random resized crop (area 0.08–1 of the picture, ratio
/// 3/4–4/3, bilinear) and a flip with odds ½.
///
/// # Errors
/// Whatever the resize refuses.
pub fn crop_flip(image: &Rgb8, size: usize, stream: &mut Stream) -> Result<Rgb8> {
    let augment = Augment {
        policy: Policy::Weak,
        crop_scale: Policy::Strong.crop_scale(),
        filter: Filter::Bilinear,
        downsample: false,
    };
    let params = AugmentParams::draw(stream, &augment, image.width, image.height);
    let mut data = vec![0; 3 * size * size];
    Resampler::default().crop(&mut data, (size, size), image, params.crop, Filter::Bilinear)?;
    if params.flip {
        augment::flip(&mut data, size);
    }
    Ok(Rgb8 { width: size, height: size, data })
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
