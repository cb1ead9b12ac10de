//! Antialiased resizing as Pillow does it: the filter is stretched by the scale when shrinking, rows first, 8 bits between.
//!
//! `fast_image_resize` weighs with 16-bit integers where Pillow has 22 bits, so a value may be one level off
//! (`tests/image.rs` measures how often).

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::Rgb8;
use crate::bail;
use crate::error::{Error, Result};

/// Kernel of the resampling, named as in Pillow; in brackets its radius in pixels of the coarser grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Mean of the covered pixels (0.5).
    Box,
    /// Triangle (1).
    Bilinear,
    /// Keys' cubic with a = −0.5 (2); Pillow's default.
    Bicubic,
    /// Lanczos (3).
    Lanczos,
}

/// The whole picture at `width`×`height`.
pub fn resize(image: &Rgb8, width: usize, height: usize, filter: Filter) -> Result<Rgb8> {
    resize_box(image, [0.0, 0.0, image.width as f64, image.height as f64], width, height, filter)
}

/// The part `[left, top, right, bottom]` (in pixels, fractions allowed) at `width`×`height`. As Pillow's `resize(box=…)`, the filter
/// reads pixels beside the box where the picture has them.
pub fn resize_box(image: &Rgb8, part: [f64; 4], width: usize, height: usize, filter: Filter) -> Result<Rgb8> {
    let [left, top, right, bottom] = part;
    let inside = 0.0 <= left && left < right && right <= image.width as f64;
    let inside = inside && 0.0 <= top && top < bottom && bottom <= image.height as f64;
    if !inside || image.data.len() != 3 * image.width * image.height {
        bail!(
            Usage,
            "cannot resize the box ({left}, {top}, {right}, {bottom}) of a picture of {}×{} with {} bytes; \
             expected 0 ≤ left < right ≤ width, 0 ≤ top < bottom ≤ height and 3 bytes per pixel",
            image.width,
            image.height,
            image.data.len()
        );
    }
    if width == 0 || height == 0 || width > super::MAX_SIDE || height > super::MAX_SIDE {
        bail!(Usage, "cannot resize to {width}×{height}: sides must be 1 to {}", super::MAX_SIDE);
    }
    let whole = part == [0.0, 0.0, image.width as f64, image.height as f64];
    if whole && (width, height) == (image.width, image.height) {
        return Ok(image.clone());
    }
    let kernel = match filter {
        Filter::Box => FilterType::Box,
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    let failed = |e: &dyn std::fmt::Display| Error::Failed(format!("cannot resize to {width}×{height}: {e}"));
    let source = ImageRef::new(image.width as u32, image.height as u32, &image.data, PixelType::U8x3)
        .map_err(|e| failed(&e))?;
    let mut out = Image::new(width as u32, height as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(kernel)).crop(left, top, right - left, bottom - top);
    Resizer::new().resize(&source, &mut out, &options).map_err(|e| failed(&e))?;
    Ok(Rgb8 { width, height, data: out.into_vec() })
}
