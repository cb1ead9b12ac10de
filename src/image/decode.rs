//! JPEG and PNG to RGB, told apart by their first bytes.
//!
//! A file becomes what Pillow's `Image.open(file).convert("RGB")` makes of it, which is what torchvision's and timm's
//! loaders give a network: the EXIF orientation is not followed, alpha is dropped (never blended), a palette becomes
//! its colours, gray is repeated, CMYK and YCCK are taken as Adobe writes them, colour profiles and gamma are left
//! aside, of an animated PNG the still is taken. Samples of 16 bits keep their high byte; there Pillow agrees for
//! colour and clips gray to white, which nobody wants.
//!
//! A file that is cut anywhere, or whose checksums are wrong, is an error, never half a picture.

use super::{Rgb8, jpeg, png};
use crate::error::{Error, Result};

/// Decodes a JPEG or PNG; `name` stands in the error.
///
/// # Errors
/// `Data` for bytes that are neither, that are damaged or cut short, or that are larger than [`super::MAX_PIXELS`] and
/// [`super::MAX_DECODED_SIDE`] allow.
pub fn decode(bytes: &[u8], name: &str) -> Result<Rgb8> {
    if bytes.starts_with(jpeg::MAGIC) {
        jpeg::decode(bytes, name)
    } else if bytes.starts_with(png::MAGIC) {
        png::decode(bytes, name)
    } else {
        Err(unknown(bytes, name))
    }
}

/// Width and height by the header alone; [`decode`] may still find the rest corrupt.
///
/// # Errors
/// As [`decode`], as far as the header shows it.
pub fn dimensions(bytes: &[u8], name: &str) -> Result<(usize, usize)> {
    if bytes.starts_with(jpeg::MAGIC) {
        jpeg::dimensions(bytes, name)
    } else if bytes.starts_with(png::MAGIC) {
        png::dimensions(bytes, name)
    } else {
        Err(unknown(bytes, name))
    }
}

fn unknown(bytes: &[u8], name: &str) -> Error {
    if bytes.is_empty() {
        return Error::Data(format!("{name}: an empty file where a picture was expected; fetch or generate it again"));
    }
    let head = &bytes[..bytes.len().min(8)];
    Error::Data(format!(
        "{name}: neither JPEG nor PNG ({} bytes, beginning {head:02x?}); convert it to one of these",
        bytes.len()
    ))
}
