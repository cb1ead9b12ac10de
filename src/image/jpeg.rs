//! JPEG to RGB: the file is walked marker by marker first, so that a cut is seen wherever it is, and what does not
//! matter to the pixels (application segments, comments, bytes after the end) never reaches the decoder.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::Rgb8;
use super::refuse::{broken, check_claim, check_size};
use crate::bail;
use crate::error::Result;

/// How the file begins: the start-of-image marker and the first byte of the next one.
pub(super) const MAGIC: &[u8] = &[0xFF, 0xD8, 0xFF];

/// Pixels that a byte of a file holds at most: in its first scan, which is all that a progressive one needs, every
/// block of 64 takes a bit.
const PIXELS_PER_BYTE: usize = 8 * 64;

// Second bytes of markers.
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const TEM: u8 = 0x01;
const DHT: u8 = 0xC4;
const JPG: u8 = 0xC8;
const DAC: u8 = 0xCC;
const APP0: u8 = 0xE0;
const APP14: u8 = 0xEE;
const APP15: u8 = 0xEF;
const COMMENT: u8 = 0xFE;

/// Where the first component's sampling factors stand in a frame header: behind precision, height, width, count and
/// identifier.
const SAMPLING: usize = 7;

/// What the frame header says.
#[derive(Clone, Debug)]
struct Frame {
    width: usize,
    height: usize,
    /// Identifiers of the colour components.
    components: Vec<u8>,
}

/// What the components mean, decided as libjpeg does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    Gray,
    YCbCr,
    Rgb,
    /// Inverted, as Adobe writes it and Pillow takes every picture of four components.
    Cmyk,
    /// YCbCr in place of cyan, magenta and yellow.
    Ycck,
}

/// A file taken apart.
#[derive(Debug)]
struct Parts {
    frame: Frame,
    color: Color,
    /// The file without what does not matter to the pixels.
    essence: Vec<u8>,
}

/// Width and height by the frame header.
pub(super) fn dimensions(bytes: &[u8], name: &str) -> Result<(usize, usize)> {
    let mut walk = Walk { bytes, at: 2, name };
    loop {
        let segment = walk.next()?;
        match segment.marker {
            EOI | SOS => return Err(broken(name, "JPEG", "no frame header")),
            marker if is_frame(marker) => {
                let frame = Frame::read(&segment, name)?;
                return Ok((frame.width, frame.height));
            }
            _ => {}
        }
    }
}

/// The picture. A CMYK or YCCK picture becomes RGB as in Pillow; the EXIF orientation is not followed.
pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Rgb8> {
    let Parts { frame, color, essence } = take_apart(bytes, name)?;
    let Frame { width, height, .. } = frame;
    check_claim((width, height), essence.len(), PIXELS_PER_BYTE, name)?;
    // What the decoder calls the components when nothing says otherwise: then it leaves them as they are.
    let space = match color {
        Color::Gray | Color::YCbCr => ColorSpace::RGB,
        Color::Rgb if frame.components == *b"RGB" => ColorSpace::RGB,
        Color::Rgb => ColorSpace::YCbCr,
        Color::Cmyk | Color::Ycck => ColorSpace::CMYK,
    };
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(space)
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&essence[..]), options);
    let data = decoder.decode().map_err(|e| broken(name, "JPEG", &format!("{e:?}")))?;
    let data = match color {
        Color::Cmyk => data.chunks_exact(4).flat_map(|p| over_black([p[0], p[1], p[2]], p[3])).collect(),
        Color::Ycck => data.chunks_exact(4).flat_map(|p| over_black(cmy_of([p[0], p[1], p[2]]), p[3])).collect(),
        // Some versions of the decoder leave a gray picture at one value a pixel.
        Color::Gray if data.len() == width * height => data.iter().flat_map(|&v| [v; 3]).collect(),
        _ => data,
    };
    if data.len() != 3 * width * height {
        return Err(broken(name, "JPEG", &format!("{} bytes of pixels for {width}×{height}", data.len())));
    }
    Ok(Rgb8 { width, height, data })
}

/// One marker and the bytes of its segment, the length left out.
struct Segment<'a> {
    marker: u8,
    body: &'a [u8],
}

/// A reader of markers.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    name: &'a str,
}

impl<'a> Walk<'a> {
    /// The next marker that stands between segments, with its segment. Fill bytes before it are skipped, as the
    /// standard says.
    fn next(&mut self) -> Result<Segment<'a>> {
        loop {
            let marker = match (self.byte(0)?, self.byte(1)?) {
                (0xFF, 0xFF) => {
                    self.at += 1;
                    continue;
                }
                (0xFF, marker) => marker,
                (other, _) => {
                    let why = format!("byte {} is {other:#04x} where a marker (0xff) was expected", self.at);
                    return Err(broken(self.name, "JPEG", &why));
                }
            };
            self.at += 2;
            match marker {
                // Markers without a segment.
                0 | TEM | SOI | 0xD0..=0xD7 => continue,
                EOI => return Ok(Segment { marker, body: &[] }),
                0x02..=0xBF => return Err(broken(self.name, "JPEG", &format!("an unknown marker, {marker:#04x}"))),
                _ => {}
            }
            let length = usize::from(u16::from_be_bytes([self.byte(0)?, self.byte(1)?]));
            if length < 2 {
                return Err(broken(self.name, "JPEG", &format!("a segment of {length} bytes at byte {}", self.at)));
            }
            let Some(body) = self.bytes.get(self.at + 2..self.at + length) else { return self.cut() };
            self.at += length;
            return Ok(Segment { marker, body });
        }
    }

    /// The entropy-coded data that follows a scan header, up to the marker behind it.
    fn scan(&mut self) -> Result<&'a [u8]> {
        let begin = self.at;
        loop {
            let Some(ff) = self.bytes[self.at..].iter().position(|&byte| byte == 0xFF) else { return self.cut() };
            self.at += ff;
            match self.byte(1)? {
                0 | 0xD0..=0xD7 => self.at += 2,
                0xFF => self.at += 1,
                _ => return Ok(&self.bytes[begin..self.at]),
            }
        }
    }

    fn byte(&self, ahead: usize) -> Result<u8> {
        match self.bytes.get(self.at + ahead) {
            Some(&byte) => Ok(byte),
            None => self.cut(),
        }
    }

    fn cut<T>(&self) -> Result<T> {
        bail!(
            Data,
            "{}: JPEG cut short ({} bytes, no end-of-image marker); fetch or generate it again",
            self.name,
            self.bytes.len()
        )
    }
}

/// Walks the whole file.
fn take_apart(bytes: &[u8], name: &str) -> Result<Parts> {
    let mut walk = Walk { bytes, at: 2, name };
    let mut essence = Vec::with_capacity(bytes.len());
    essence.extend([0xFF, SOI]);
    let (mut frame, mut scans, mut jfif, mut adobe) = (None, 0, false, None);
    loop {
        let segment = walk.next()?;
        match segment.marker {
            EOI => break,
            APP0 if segment.body.starts_with(b"JFIF\0") => jfif = true,
            // Version, two words of flags, then the transform.
            APP14 if segment.body.starts_with(b"Adobe") && segment.body.len() >= 12 => adobe = Some(segment.body[11]),
            APP0..=APP15 | COMMENT => {}
            marker => {
                if is_frame(marker) {
                    if frame.is_some() {
                        return Err(broken(name, "JPEG", "two frame headers"));
                    }
                    frame = Some(Frame::read(&segment, name)?);
                }
                essence.extend([0xFF, marker]);
                essence.extend((segment.body.len() as u16 + 2).to_be_bytes());
                essence.extend(segment.body);
                if is_frame(marker) && frame.as_ref().is_some_and(|frame: &Frame| frame.components.len() == 1) {
                    // How a lone component is sampled means nothing (T.81, A.2.2), and where it is other than one to
                    // one the decoder counts blocks in 16 bits, which sides above 65,528 overflow.
                    let sampling = essence.len() - segment.body.len() + SAMPLING;
                    essence[sampling] = 0x11;
                }
                if marker == SOS {
                    scans += 1;
                    essence.extend(walk.scan()?);
                }
            }
        }
    }
    let Some(frame) = frame.filter(|_| scans > 0) else {
        return Err(broken(name, "JPEG", "it ends before its picture begins"));
    };
    essence.extend([0xFF, EOI]);
    let color = match (frame.components.len(), adobe) {
        (1, _) => Color::Gray,
        (3, Some(0)) if !jfif => Color::Rgb,
        (3, None) if !jfif && frame.components == *b"RGB" => Color::Rgb,
        (3, _) => Color::YCbCr,
        (4, None | Some(0)) => Color::Cmyk,
        (4, Some(_)) => Color::Ycck,
        (n, _) => bail!(Data, "{name}: a JPEG of {n} colour components; expected 1, 3 or 4: convert it to RGB"),
    };
    Ok(Parts { frame, color, essence })
}

/// Whether `marker` begins a frame header, of any kind.
fn is_frame(marker: u8) -> bool {
    (0xC0..=0xCF).contains(&marker) && ![DHT, JPG, DAC].contains(&marker)
}

impl Frame {
    fn read(segment: &Segment, name: &str) -> Result<Self> {
        let kind = match segment.marker {
            0xC0..=0xC2 => None,
            0xC9..=0xCB | 0xCD..=0xCF => Some("an arithmetic-coded"),
            0xC3 => Some("a lossless"),
            _ => Some("a hierarchical"),
        };
        if let Some(kind) = kind {
            bail!(Data, "{name}: {kind} JPEG; convert it to a baseline or progressive one, or to PNG");
        }
        let [bits, h1, h0, w1, w0, count, ref rest @ ..] = *segment.body else {
            return Err(broken(name, "JPEG", "a frame header that is too short"));
        };
        if bits != 8 {
            bail!(Data, "{name}: a JPEG of {bits} bits per colour; expected 8: convert it");
        }
        if rest.len() != 3 * usize::from(count) {
            return Err(broken(name, "JPEG", "a frame header of another length than its components take"));
        }
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (width, height) = (size(w1, w0), size(h1, h0));
        check_size(width, height, name)?;
        Ok(Self { width, height, components: rest.chunks_exact(3).map(|component| component[0]).collect() })
    }
}

/// Pillow's RGB of an inverted CMYK pixel: cyan, magenta, yellow fade to the black's share.
fn over_black(inverted: [u8; 3], k: u8) -> [u8; 3] {
    let light = i32::from(k);
    inverted.map(|v| {
        let shade = i32::from(255 - v) * light + 128;
        (light - (((shade >> 8) + shade) >> 8)).clamp(0, 255) as u8
    })
}

/// The cyan, magenta, yellow that libjpeg makes of YCbCr in 16 fractional bits: what red, green, blue leave of 255.
fn cmy_of([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    // 1.402, 0.344136, 0.714136 and 1.772 times 2^16.
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|v| 255 - v.clamp(0, 255) as u8)
}
