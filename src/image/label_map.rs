//! Class numbers of pixels, as segmentation data sets keep them: a gray PNG whose values are the numbers, or one with a
//! palette whose places are.

use super::png;
use super::refuse::broken;
use super::{Rgb8, decode};
use crate::bail;
use crate::error::Result;

/// A label that is none.
pub const IGNORED: u8 = u8::MAX;

/// Which numbers of pixels are classes: `count` from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    pub count: usize,
    pub first: u8,
}

impl Classes {
    /// The class of a number, from 0; [`IGNORED`] for one that is none.
    pub fn label(self, number: u8) -> u8 {
        let class = number.checked_sub(self.first);
        class.filter(|&class| usize::from(class) < self.count).unwrap_or(IGNORED)
    }

    /// Whether a number is beyond the last class, where no data set that has these classes puts a pixel. [`IGNORED`] is
    /// what is none by agreement.
    pub fn is_beyond(self, number: u8) -> bool {
        number != IGNORED && usize::from(number) >= usize::from(self.first) + self.count
    }
}

/// A number for every pixel, `[height, width]`, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl LabelMap {
    /// One row.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[self.width * y..self.width * (y + 1)]
    }

    /// Whether it is of `image`.
    pub fn fits(&self, image: &Rgb8) -> bool {
        (self.width, self.height) == (image.width, image.height)
    }
}

/// Decodes a PNG of up to 8 bits a pixel without looking its numbers up in a palette; `name` stands in the error.
///
/// # Errors
/// `Data` for bytes that are no such PNG, or are damaged or cut short.
pub fn decode_labels(bytes: &[u8], name: &str) -> Result<LabelMap> {
    if !bytes.starts_with(png::MAGIC) {
        bail!(Data, "{name}: no PNG; class numbers of pixels are expected as a gray PNG, or one with a palette");
    }
    let (width, height) = png::checked(bytes, name)?;
    let mut decoder = png::decoder(bytes);
    decoder.set_transformations(::png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(png::failed(name))?;
    let (color, depth) = (reader.info().color_type, reader.info().bit_depth as usize);
    if !matches!(color, ::png::ColorType::Grayscale | ::png::ColorType::Indexed) || depth > 8 {
        bail!(
            Data,
            "{name}: a PNG of {color:?} with {depth} bits; class numbers of pixels are expected as gray or as places of a \
             palette, 8 bits or fewer: save the numbers themselves, not their colours"
        );
    }
    let Some(size) = reader.output_buffer_size() else { return Err(broken(name, "PNG", "size overflows")) };
    let mut packed = vec![0; size];
    let frame = reader.next_frame(&mut packed).map_err(png::failed(name))?;
    reader.finish().map_err(png::failed(name))?;
    let (line, each) = (frame.line_size, 8 / depth);
    let mask = (((1u16 << depth) - 1) & 0xff) as u8;
    let mut data = Vec::with_capacity(width * height);
    for row in packed.chunks_exact(line).take(height) {
        data.extend((0..width).map(|x| row[x / each] >> (8 - depth - x % each * depth) & mask));
    }
    if data.len() != width * height {
        return Err(broken(name, "PNG", &format!("{} pixels for {width}×{height}", data.len())));
    }
    Ok(LabelMap { width, height, data })
}

/// A picture and the class numbers of its pixels.
///
/// # Errors
/// `Data` when one of them is damaged or they are of two sizes.
pub fn decode_scene(picture: &[u8], map: &[u8], name: &str) -> Result<(Rgb8, LabelMap)> {
    let (image, labels) = (decode(picture, name)?, decode_labels(map, &format!("{name}, class numbers"))?);
    if !labels.fits(&image) {
        bail!(
            Data,
            "{name}: is {}×{}, the class numbers of its pixels {}×{}; they must be of one size",
            image.width,
            image.height,
            labels.width,
            labels.height
        );
    }
    Ok((image, labels))
}
