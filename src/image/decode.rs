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
use crate::bail;
use crate::error::{Error, Result};

/// Most pixels of a picture that is decoded, Pillow's limit too: a header that claims more is refused before memory is
/// reserved for it.
pub const MAX_PIXELS: usize = 178_956_970;

/// Longest side of a picture that is decoded, JPEG's own limit.
pub const MAX_DECODED_SIDE: usize = 65_535;

/// Decodes a JPEG or PNG; `name` stands in the error.
///
/// # Errors
/// `Data` for bytes that are neither, that are damaged or cut short, or that are larger than [`MAX_PIXELS`] and
/// [`MAX_DECODED_SIDE`] allow.
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

/// Refuses a picture without pixels, or with more than are decoded.
pub(super) fn check_size(width: usize, height: usize, name: &str) -> Result<()> {
    let sides = 1..=MAX_DECODED_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) || width * height > MAX_PIXELS {
        bail!(
            Data,
            "{name}: a picture of {width}×{height}; expected sides of 1 to {MAX_DECODED_SIDE} and at most {MAX_PIXELS} pixels: shrink it"
        );
    }
    Ok(())
}

/// Refuses a picture of more pixels than `bytes` of its file can hold at `most` pixels a byte, before memory is
/// reserved for them: what a few bytes may cost then has a bound.
pub(super) fn check_claim((width, height): (usize, usize), bytes: usize, most: usize, name: &str) -> Result<()> {
    if width * height > most.saturating_mul(bytes) {
        bail!(
            Data,
            "{name}: its header says {width}×{height}, and its {bytes} bytes hold {} pixels at most: cut short or \
             corrupt; fetch or generate it again",
            most.saturating_mul(bytes)
        );
    }
    Ok(())
}

pub(super) fn broken(name: &str, format: &str, why: &str) -> Error {
    Error::Data(format!("{name}: corrupt {format}: {why}; fetch or generate it again"))
}
