//! From drawn pictures to the bytes of a shard.

use super::config::ImageFormat;
use super::painter::Decoded;
use super::sizes::stored_size;
use crate::error::Result;
use crate::image::{self, Filter, Rgb8};

/// How pictures are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// Side of the shorter edge; as drawn when absent.
    pub store_size: Option<usize>,
    pub format: ImageFormat,
    /// Of JPEG.
    pub quality: u8,
}

/// An image as it goes into the shard.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub width: usize,
    pub height: usize,
    pub not_finite: bool,
    /// Of one single color as drawn.
    pub constant: bool,
}

impl Encoding {
    /// At the stored size, as the bytes of a file.
    pub fn encode(self, decoded: Decoded) -> Result<Encoded> {
        let Decoded { image, not_finite, constant } = decoded;
        let image = match self.store_size {
            Some(side) => downscale(&image, side)?,
            None => image,
        };
        let bytes = match self.format {
            ImageFormat::Png => image::encode_png(&image)?,
            ImageFormat::Jpg => image::encode_jpeg(&image, self.quality)?,
        };
        Ok(Encoded { bytes, width: image.width, height: image.height, not_finite, constant })
    }
}

/// Shorter edge to `side`, antialiased bicubic as Pillow's `resize`; never enlarges.
fn downscale(image: &Rgb8, side: usize) -> Result<Rgb8> {
    match stored_size((image.width, image.height), side) {
        (width, height) if (width, height) == (image.width, image.height) => Ok(image.clone()),
        (width, height) => image::resize(image, width, height, Filter::Bicubic),
    }
}
