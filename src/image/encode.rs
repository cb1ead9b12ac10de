//! RGB to PNG and JPEG bytes. The same picture always gives the same bytes.

use super::Rgb8;
use crate::bail;
use crate::error::{Error, Result};

/// Encodes as 8-bit RGB PNG without time stamps or other metadata.
pub fn encode_png(image: &Rgb8) -> Result<Vec<u8>> {
    check(image)?;
    let mut bytes = Vec::with_capacity(image.data.len() / 2 + 1024);
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let failed = |e: png::EncodingError| Error::Failed(format!("cannot encode a PNG: {e}"));
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&image.data).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Encodes as baseline JPEG of `quality` 1–100 (4:2:0 chroma below 90, 4:4:4 from 90 on).
pub fn encode_jpeg(image: &Rgb8, quality: u8) -> Result<Vec<u8>> {
    check(image)?;
    if !(1..=100).contains(&quality) {
        bail!(Usage, "JPEG quality {quality}: expected 1 to 100");
    }
    let (Ok(width), Ok(height)) = (u16::try_from(image.width), u16::try_from(image.height)) else {
        bail!(Usage, "a JPEG of {}×{} cannot be written: its sides are at most 65535", image.width, image.height);
    };
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, quality)
        .encode(&image.data, width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(|e| Error::Failed(format!("cannot encode a JPEG: {e}")))?;
    Ok(bytes)
}

fn check(image: &Rgb8) -> Result<()> {
    let Rgb8 { width, height, data } = image;
    if *width == 0 || *height == 0 || data.len() != 3 * width * height {
        bail!(
            Usage,
            "a picture of {width}×{height} with {} bytes cannot be encoded; expected 3·width·height > 0",
            data.len()
        );
    }
    Ok(())
}
