//! The part of a picture that counts.

use crate::bail;
use crate::error::Result;
use crate::image::Rgb8;

/// Which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    Whole,
    /// Pixels from the upper left corner on; what lies beyond the picture is cut off.
    Box {
        x: usize,
        y: usize,
        width: usize,
        height: usize,
    },
}

impl Region {
    /// The part of `image`, which is called `name`.
    ///
    /// # Errors
    /// `Data` when it lies beyond the picture.
    pub fn of(self, image: Rgb8, name: &str) -> Result<Rgb8> {
        let Self::Box { x, y, width, height } = self else { return Ok(image) };
        if x >= image.width || y >= image.height {
            bail!(Data, "{name}: the box at {x}, {y} lies beyond its {}×{} pixels", image.width, image.height);
        }
        let (width, height) = (width.min(image.width - x), height.min(image.height - y));
        let rows = (y..y + height).flat_map(|row| image.row(row)[3 * x..3 * (x + width)].iter().copied());
        Ok(Rgb8 { width, height, data: rows.collect() })
    }
}
