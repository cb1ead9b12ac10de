//! PNG to RGB.

use std::io::Cursor;

use super::Rgb8;
use super::refuse::{MAX_PIXELS, broken, check_claim, check_size};
use crate::error::{Error, Result};

/// How the file begins.
pub(super) const MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Bytes that a byte of deflate holds at most: 258 of them take a bit for the length and one for the distance.
const UNPACKED_PER_BYTE: usize = 4 * 258;

/// A decoder that refuses a wrong checksum in any chunk it looks at.
pub(super) fn decoder(bytes: &[u8]) -> png::Decoder<Cursor<&[u8]>> {
    let mut options = png::DecodeOptions::default();
    options.set_skip_ancillary_crc_failures(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes), options);
    // Of the rows that it keeps; the picture itself is ours to bound.
    decoder.set_limits(png::Limits { bytes: 16 * MAX_PIXELS });
    decoder
}

pub(super) fn failed(name: &str) -> impl Fn(png::DecodingError) -> Error {
    move |e| broken(name, "PNG", &e.to_string())
}

/// Width, height and bits of a pixel by the header.
fn header(bytes: &[u8], name: &str) -> Result<(usize, usize, usize)> {
    let mut decoder = decoder(bytes);
    let header = decoder.read_header_info().map_err(failed(name))?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height, name)?;
    Ok((width, height, header.bits_per_pixel()))
}

/// Width and height by the header.
pub(super) fn dimensions(bytes: &[u8], name: &str) -> Result<(usize, usize)> {
    header(bytes, name).map(|(width, height, _)| (width, height))
}

/// Width and height, which so many bytes can hold.
pub(super) fn checked(bytes: &[u8], name: &str) -> Result<(usize, usize)> {
    let (width, height, bits) = header(bytes, name)?;
    check_claim((width, height), bytes.len(), 8 * UNPACKED_PER_BYTE / bits, name)?;
    Ok((width, height))
}

/// The picture; of an animation its still.
pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Rgb8> {
    let (width, height) = checked(bytes, name)?;
    let mut decoder = decoder(bytes);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(failed(name))?;
    let Some(size) = reader.output_buffer_size() else {
        return Err(broken(name, "PNG", "size overflows"));
    };
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(failed(name))?;
    // The rest of the file holds the checksum of the last chunk and the end marker.
    reader.finish().map_err(failed(name))?;
    data.truncate(frame.buffer_size());
    let data = match frame.color_type {
        png::ColorType::Rgb => data,
        png::ColorType::Rgba => data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => data.iter().flat_map(|&v| [v; 3]).collect(),
        png::ColorType::GrayscaleAlpha => data.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        png::ColorType::Indexed => return Err(broken(name, "PNG", "palette that was not expanded")),
    };
    if data.len() != 3 * width * height {
        return Err(broken(name, "PNG", &format!("{} bytes of pixels for {width}×{height}", data.len())));
    }
    Ok(Rgb8 { width, height, data })
}
