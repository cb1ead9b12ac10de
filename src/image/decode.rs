//! JPEG and PNG to RGB, told apart by their first bytes.

use std::io::Cursor;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::Rgb8;
use crate::bail;
use crate::error::{Error, Result};

/// Longest side that is decoded: a header that claims more is refused before memory is reserved for it.
pub const MAX_SIDE: usize = 16_384;

/// How the files begin.
const JPEG: &[u8] = &[0xFF, 0xD8, 0xFF];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Decodes a JPEG or PNG. Gray and palette pictures become RGB, 16-bit samples keep their high byte, alpha is dropped
/// (what Pillow's `convert("RGB")` does). `name` stands in the error. A file cut short is an error, never half a picture.
pub fn decode(bytes: &[u8], name: &str) -> Result<Rgb8> {
    if bytes.starts_with(JPEG) {
        decode_jpeg(bytes, name)
    } else if bytes.starts_with(PNG) {
        decode_png(bytes, name)
    } else {
        Err(unknown(bytes, name))
    }
}

/// Width and height by the header alone; [`decode`] may still find the rest corrupt.
pub fn dimensions(bytes: &[u8], name: &str) -> Result<(usize, usize)> {
    if bytes.starts_with(JPEG) {
        let mut decoder = JpegDecoder::new(ZCursor::new(bytes));
        decoder.decode_headers().map_err(|e| broken(name, "JPEG", &format!("{e:?}")))?;
        let info = decoder.info().ok_or_else(|| broken(name, "JPEG", "no frame header"))?;
        Ok((usize::from(info.width), usize::from(info.height)))
    } else if bytes.starts_with(PNG) {
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        let header = decoder.read_header_info().map_err(|e| broken(name, "PNG", &e.to_string()))?;
        Ok((header.width as usize, header.height as usize))
    } else {
        Err(unknown(bytes, name))
    }
}

fn unknown(bytes: &[u8], name: &str) -> Error {
    let head = &bytes[..bytes.len().min(8)];
    Error::Data(format!(
        "{name}: neither JPEG nor PNG ({} bytes, beginning {head:02x?}); convert it to one of these",
        bytes.len()
    ))
}

fn decode_jpeg(bytes: &[u8], name: &str) -> Result<Rgb8> {
    // The decoder pads a scan that ends early; a complete file ends with the EOI marker (some writers add bytes after it).
    if !bytes.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]) {
        bail!(
            Data,
            "{name}: JPEG cut short ({} bytes, no end-of-image marker); fetch or generate it again",
            bytes.len()
        );
    }
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let data = decoder.decode().map_err(|e| broken(name, "JPEG", &format!("{e:?}")))?;
    let (width, height) = match decoder.info() {
        Some(info) => (usize::from(info.width), usize::from(info.height)),
        None => return Err(broken(name, "JPEG", "no frame header")),
    };
    let data = match decoder.output_colorspace().map_or(0, |space| space.num_components()) {
        3 => data,
        1 => data.iter().flat_map(|&v| [v; 3]).collect(),
        n => return Err(broken(name, "JPEG", &format!("{n} colour components"))),
    };
    if data.len() != 3 * width * height || data.is_empty() {
        return Err(broken(name, "JPEG", &format!("{} bytes of pixels for {width}×{height}", data.len())));
    }
    Ok(Rgb8 { width, height, data })
}

fn decode_png(bytes: &[u8], name: &str) -> Result<Rgb8> {
    let failed = |e: png::DecodingError| broken(name, "PNG", &e.to_string());
    let limits = png::Limits { bytes: 4 * MAX_SIDE * MAX_SIDE };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(failed)?;
    let (width, height) = (header.width as usize, header.height as usize);
    if width > MAX_SIDE || height > MAX_SIDE {
        bail!(Data, "{name}: PNG of {width}×{height}; the longest side decoded is {MAX_SIDE}");
    }
    let mut reader = decoder.read_info().map_err(failed)?;
    let Some(size) = reader.output_buffer_size() else {
        return Err(broken(name, "PNG", "size overflows"));
    };
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(failed)?;
    // The rest of the file holds the checksum of the last chunk and the end marker.
    reader.finish().map_err(failed)?;
    data.truncate(frame.buffer_size());
    let data = match frame.color_type {
        png::ColorType::Rgb => data,
        png::ColorType::Rgba => data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => data.iter().flat_map(|&v| [v; 3]).collect(),
        png::ColorType::GrayscaleAlpha => data.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        png::ColorType::Indexed => return Err(broken(name, "PNG", "palette that was not expanded")),
    };
    Ok(Rgb8 { width, height, data })
}

fn broken(name: &str, format: &str, why: &str) -> Error {
    Error::Data(format!("{name}: corrupt {format}: {why}; fetch or generate it again"))
}
