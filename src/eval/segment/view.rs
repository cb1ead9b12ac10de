//! Pictures as the network is given them, and drawn beside what was told of their pixels.

use crate::error::Result;
use crate::image::sheet::SheetRow;
use crate::image::{Filter, IGNORED, Rgb8, resize};
use crate::ops::augment::{Normalize, bounded_short_side};

/// A picture whose short side is that of a window, or less where the long one would be over four times that.
#[derive(Debug)]
pub struct Prepared {
    image: Rgb8,
    side: usize,
}

impl Prepared {
    /// # Errors
    /// Whatever resizing refuses.
    pub fn new(image: &Rgb8, side: usize) -> Result<Self> {
        let (width, height) = bounded_short_side((image.width, image.height), side as f64);
        Ok(Self { image: resize(image, width, height, Filter::Bilinear)?, side })
    }

    pub fn size(&self) -> (usize, usize) {
        (self.image.width, self.image.height)
    }

    /// The window that begins at `[x, y]`.
    pub fn window(&self, [x, y]: [usize; 2]) -> Rgb8 {
        let (side, image) = (self.side, &self.image);
        let (wide, high) = (side.min(image.width - x), side.min(image.height - y));
        let mut window = Rgb8::filled(side, side, Normalize::IMAGENET_FILL);
        for (i, row) in window.data.chunks_exact_mut(3 * side).take(high).enumerate() {
            row[..3 * wide].copy_from_slice(&image.row(y + i)[3 * x..3 * (x + wide)]);
        }
        window
    }
}

/// A colour for each class, far from those of its neighbours; gray for what is none.
fn color(class: u8) -> [u8; 3] {
    if class == IGNORED {
        return [128; 3];
    }
    // Each bit triple of the number lightens a channel, the lowest most: PASCAL VOC's colours.
    let mut color = [0u8; 3];
    for bit in 0..8 {
        let triple = (u32::from(class) + 1) >> (3 * bit) & 7;
        for (channel, value) in color.iter_mut().enumerate() {
            *value |= (((triple >> channel) & 1) as u8).wrapping_shl(7 - bit);
        }
    }
    color
}

/// A picture, its labels, and what its pixels were taken for, half over the picture.
pub fn shown(name: String, image: &Rgb8, labels: &[u8], taken: &[u8]) -> SheetRow {
    let over = |classes: &[u8]| {
        let mut data = image.data.clone();
        for (pixel, &class) in data.chunks_exact_mut(3).zip(classes) {
            for (value, color) in pixel.iter_mut().zip(color(class)) {
                *value = ((u16::from(*value) + 2 * u16::from(color)) / 3) as u8;
            }
        }
        Rgb8 { data, ..*image }
    };
    let notes = ["picture", "labels", "taken for"].map(str::to_owned).to_vec();
    SheetRow { label: name, images: vec![image.clone(), over(labels), over(taken)], notes }
}
