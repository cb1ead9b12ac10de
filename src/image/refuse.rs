//! Files that are not decoded: claims beyond any picture, and damage.

use crate::bail;
use crate::error::{Error, Result};

/// Most pixels of a picture that is decoded, Pillow's limit too: a header that claims more is refused before memory is
/// reserved for it.
pub const MAX_PIXELS: usize = 178_956_970;

/// Longest side of a picture that is decoded, JPEG's own limit.
pub const MAX_DECODED_SIDE: usize = 65_535;

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
