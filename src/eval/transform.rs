//! From a photograph of any size to the square the encoder takes: at test time, and the paper's augmentation of the probe's
//! training images.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::image::{Filter, Rgb8, resize};
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
                let (short, long) = (image.width.min(image.height), image.width.max(image.height));
                let scaled_long = (self.resize as u64 * long as u64 / short.max(1) as u64) as usize;
                let (width, height) =
                    if image.width <= image.height { (self.resize, scaled_long) } else { (scaled_long, self.resize) };
                let image = resize(image, width, height, Filter::Bilinear)?;
                let offset = |side: usize| ((side - size) as f64 / 2.0).round_ties_even() as usize;
                Ok(crop(&image, offset(width), offset(height), size, size))
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
/// bilinear) and a flip with odds ½, drawn as torchvision draws them.
///
/// # Errors
/// Whatever the resize refuses.
pub fn crop_flip(image: &Rgb8, size: usize, stream: &mut Stream) -> Result<Rgb8> {
    let [left, top, width, height] = random_crop(image.width, image.height, stream);
    let mut out = resize(&crop(image, left, top, width, height), size, size, Filter::Bilinear)?;
    if stream.uniform() < 0.5 {
        for row in out.data.chunks_exact_mut(3 * size) {
            row.as_chunks_mut::<3>().0.reverse();
        }
    }
    Ok(out)
}

/// Left, top, width and height of torchvision's `RandomResizedCrop` with scale (0.08, 1) and ratio (3/4, 4/3): ten tries, then the
/// largest centred crop within the ratios.
fn random_crop(width: usize, height: usize, stream: &mut Stream) -> [usize; 4] {
    let (least, most) = (3.0f64 / 4.0, 4.0f64 / 3.0);
    let mut between = |lo: f64, hi: f64| lo + (hi - lo) * f64::from(stream.uniform());
    for _ in 0..10 {
        let area = (width * height) as f64 * between(0.08, 1.0);
        let ratio = between(least.ln(), most.ln()).exp();
        let (w, h) =
            ((area * ratio).sqrt().round_ties_even() as usize, (area / ratio).sqrt().round_ties_even() as usize);
        let (left, top) = (between(0.0, 1.0), between(0.0, 1.0));
        if 0 < w && w <= width && 0 < h && h <= height {
            let place = |free: usize, at: f64| ((free + 1) as f64 * at) as usize;
            return [place(width - w, left), place(height - h, top), w, h];
        }
    }
    let ratio = width as f64 / height as f64;
    let (w, h) = if ratio < least {
        (width, ((width as f64 / least).round_ties_even() as usize).clamp(1, height))
    } else if ratio > most {
        (((height as f64 * most).round_ties_even() as usize).clamp(1, width), height)
    } else {
        (width, height)
    };
    [(width - w) / 2, (height - h) / 2, w, h]
}

/// The part of `image` whose top left corner is (`left`, `top`).
fn crop(image: &Rgb8, left: usize, top: usize, width: usize, height: usize) -> Rgb8 {
    let rows = (top..top + height).flat_map(|y| &image.row(y)[3 * left..3 * (left + width)]);
    Rgb8 { width, height, data: rows.copied().collect() }
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
