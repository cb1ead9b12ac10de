//! RGB pictures: decode, encode, resize, contact sheets, plots.

mod canvas;
mod decode;
mod difference;
mod encode;
mod font;
mod heat;
mod jpeg;
mod label_map;
pub mod plot;
mod png;
mod real;
mod refuse;
mod resize;
pub mod sheet;

pub use canvas::{Canvas, Color};
pub use decode::{decode, dimensions};
pub use difference::Difference;
pub use encode::{encode_jpeg, encode_png};
pub use heat::heat;
pub use label_map::{Classes, IGNORED, LabelMap, decode_labels, decode_scene};
pub use real::{between, interpolate, resize_real};
pub use refuse::{MAX_DECODED_SIDE, MAX_PIXELS};
pub use resize::{Filter, MAX_SIDE, Resampler, columns_first, resize, resize_box, resize_window, taps, weight_table};

/// An 8-bit RGB picture, `[height, width, 3]`, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl Rgb8 {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self { width, height, data: color.repeat(width * height) }
    }

    /// The pixel in column `x`, row `y`.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let i = 3 * (y * self.width + x);
        [self.data[i], self.data[i + 1], self.data[i + 2]]
    }

    /// One row, `[width, 3]`.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[3 * self.width * y..3 * self.width * (y + 1)]
    }
}
