//! Lengths, checksums and tables of binary files.

use std::io::{Read, Write};

use serde_json::{Map, Value, json};

use super::text::json_value;
use super::{Dice, ODD_BYTES};

/// The header is changed and its length put right, or the length alone.
pub fn safetensors(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let Some(length) = bytes.first_chunk().map(|head| u64::from_le_bytes(*head) as usize) else { return };
    let Some(header) = bytes.get(8..8usize.saturating_add(length)) else { return };
    if dice.one_in(8) {
        let odd = *dice.pick(&[0u64, 1, 7, u64::MAX, 1 << 40, length as u64 + 1, bytes.len() as u64]);
        bytes[..8].copy_from_slice(&odd.to_le_bytes());
        return;
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(header) else { return };
    json_value(&mut value, dice);
    // Offsets of the right form more often than chance makes them.
    if let (Value::Object(all), true) = (&mut value, dice.one_in(3)) {
        offsets(all, bytes.len() - 8 - length, dice);
    }
    let header = serde_json::to_vec(&value).unwrap();
    let rest = bytes[8 + length..].to_vec();
    *bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &rest].concat();
}

fn offsets(all: &mut Map<String, Value>, end: usize, dice: &mut Dice) {
    if all.is_empty() {
        return;
    }
    let key = all.keys().nth(dice.below(all.len())).cloned().unwrap();
    let (from, to) = (dice.below(end + 1), dice.below(end + 9));
    let kind = *dice.pick(&["F32", "F16", "BF16", "I64", "F64", "U8", "BOOL", "F4", "?"]);
    all[&key] = json!({"dtype": kind, "shape": [dice.below(9), 4], "data_offsets": [from, to]});
}

const BLOCK: usize = 512;
/// Start and length of a header's fields.
const FIELDS: [(usize, usize); 9] =
    [(0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)];

pub fn tar(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let blocks = bytes.len() / BLOCK;
    if blocks == 0 {
        return;
    }
    let headers: Vec<usize> = (0..blocks).filter(|block| bytes[block * BLOCK + 257..].starts_with(b"ustar")).collect();
    let at = if headers.is_empty() { dice.below(blocks) } else { *dice.pick(&headers) } * BLOCK;
    match dice.below(6) {
        0 => drop(bytes.drain(at..at + BLOCK)),
        3 => extend(bytes, at, dice),
        1 => {
            let block = bytes[at..at + BLOCK].to_vec();
            bytes.splice(at..at, block);
        }
        2 => bytes[at..at + BLOCK].fill(0),
        _ => {
            let (start, length) = *dice.pick(&FIELDS);
            let field = &mut bytes[at + start..at + start + length];
            match dice.below(4) {
                0 => field.fill(*dice.pick(&ODD_BYTES)),
                1 => field.fill(b'7'),
                2 => {
                    let odd =
                        dice.pick(&["0", "1", "777777777777", "x", "L", "../../up", "/root", "a.png", "-1", ".txt"]);
                    field.fill(0);
                    field.iter_mut().zip(odd.bytes()).for_each(|(to, from)| *to = from);
                }
                _ => {
                    let place = dice.below(length);
                    field[place] = *dice.pick(&ODD_BYTES);
                }
            }
            put_sum(&mut bytes[at..at + BLOCK]);
        }
    }
}

/// Puts the checksum of a header right.
fn put_sum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Records of extended headers, right and wrong.
const RECORDS: [&str; 12] = [
    "14 path=k.png\n",
    "14 path=k.txt\n",
    "18 path=../../up\n",
    "7 path=\n",
    "10 size=1\n",
    "29 size=18446744073709551615\n",
    "12 size=-1\n",
    "22 GNU.sparse.major=1\n",
    "99 path=short\n",
    "0 a=b\n",
    "\n",
    "5 =\u{1}\n",
];

/// Puts an extended header before the header at `at`.
fn extend(bytes: &mut Vec<u8>, at: usize, dice: &mut Dice) {
    let body: String = (0..=dice.below(3)).map(|_| *dice.pick(&RECORDS)).collect();
    let mut header = bytes[at..at + BLOCK].to_vec();
    header[124..136].copy_from_slice(format!("{:011o}\0", body.len()).as_bytes());
    header[156] = *dice.pick(b"xxxLKgSV");
    put_sum(&mut header);
    header.extend(body.as_bytes());
    header.resize(2 * BLOCK, 0);
    bytes.splice(at..at, header);
}

/// Sides of a picture that headers may claim.
const SIDES: [u32; 12] = [0, 1, 2, 7, 33, 1000, 13_000, 65_500, 65_535, 65_536, 1 << 31, u32::MAX];

/// Start of each chunk and length of its data.
fn chunks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut all, mut at) = (Vec::new(), 8);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = u32::from_be_bytes(*head) as usize;
        if at + 12 + length > bytes.len() {
            break;
        }
        all.push((at, length));
        at += 12 + length;
    }
    all
}

pub fn png(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let all = chunks(bytes);
    if all.is_empty() {
        return;
    }
    let (at, length) = *dice.pick(&all);
    match dice.below(6) {
        0 => drop(bytes.drain(at..at + 12 + length)),
        3 => pixels(bytes, &all, dice),
        2 if bytes[12..16] == *b"IHDR" && bytes.len() > 33 => {
            let side = 16 + 4 * dice.below(2);
            bytes[side..side + 4].copy_from_slice(&dice.pick(&SIDES).to_be_bytes());
            put_checksum(bytes, all[0]);
        }
        1 => {
            let chunk = bytes[at..at + 12 + length].to_vec();
            let to = dice.pick(&all).0;
            bytes.splice(to..to, chunk);
        }
        _ => {
            // The first chunk holds sizes, depth and colour.
            let (at, length) = if dice.one_in(2) { all[0] } else { (at, length) };
            let place = at + 4 + dice.below(4 + length);
            bytes[place] = if dice.one_in(2) { *dice.pick(&ODD_BYTES) } else { dice.below(20) as u8 };
            put_checksum(bytes, (at, length));
        }
    }
}

/// What is packed in the chunks of pixels is changed and packed again, into one.
fn pixels(bytes: &mut Vec<u8>, all: &[(usize, usize)], dice: &mut Dice) {
    let parts = all.iter().filter(|&&(at, _)| bytes[at + 4..at + 8] == *b"IDAT");
    let packed: Vec<u8> = parts.clone().flat_map(|&(at, length)| &bytes[at + 8..at + 8 + length]).copied().collect();
    let mut raw = Vec::new();
    let unpacked = flate2::read::ZlibDecoder::new(&packed[..]).take(1 << 20).read_to_end(&mut raw);
    let (Some(&(first, _)), Some(&(last, length)), Ok(1..)) =
        (parts.clone().next(), parts.clone().next_back(), unpacked)
    else {
        return;
    };
    for _ in 0..=dice.below(4) {
        let at = dice.below(raw.len());
        raw[at] = if dice.one_in(2) { dice.below(6) as u8 } else { *dice.pick(&ODD_BYTES) };
    }
    if dice.one_in(4) {
        raw.truncate(dice.below(raw.len() + 1));
    }
    let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(&raw).unwrap();
    let data = writer.finish().unwrap();
    let chunk = [&(data.len() as u32).to_be_bytes()[..], b"IDAT", &data, &[0; 4]].concat();
    bytes.splice(first..last + 12 + length, chunk);
    put_checksum(bytes, (first, data.len()));
}

/// Puts the checksum of a chunk right.
fn put_checksum(bytes: &mut [u8], (at, length): (usize, usize)) {
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[at + 4..at + 8 + length]);
    bytes[at + 8 + length..at + 12 + length].copy_from_slice(&sum.sum().to_be_bytes());
}

pub fn jpeg(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let (mut segments, mut at) = (Vec::new(), 2);
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = 2 + usize::from(u16::from_be_bytes([high, low]));
        if at + length > bytes.len() {
            break;
        }
        segments.push((at, length));
        at += length;
        if marker == 0xda {
            break;
        }
    }
    if segments.is_empty() {
        return;
    }
    let (at, length) = *dice.pick(&segments);
    let frame = segments.iter().find(|&&(at, length)| (0xc0..=0xc2).contains(&bytes[at + 1]) && length > 9);
    match (dice.below(5), frame) {
        (2, Some(&(at, _))) => {
            let side = at + 5 + 2 * dice.below(2);
            bytes[side..side + 2].copy_from_slice(&(*dice.pick(&SIDES) as u16).to_be_bytes());
        }
        (0, _) => drop(bytes.drain(at..at + length)),
        (1, _) => {
            let segment = bytes[at..at + length].to_vec();
            let to = dice.pick(&segments).0;
            bytes.splice(to..to, segment);
        }
        _ => {
            let place = at + 1 + dice.below(length - 1);
            bytes[place] = if dice.one_in(2) { *dice.pick(&ODD_BYTES) } else { dice.below(256) as u8 };
        }
    }
}

pub fn idx(bytes: &mut [u8], dice: &mut Dice) {
    if bytes.len() < 16 {
        return;
    }
    let odd = *dice.pick(&[0u32, 1, 2, 255, 65_536, u32::MAX, 1 << 31, 2051, 2049]);
    let at = 4 * dice.below(4);
    bytes[at..at + 4].copy_from_slice(&odd.to_be_bytes());
}

/// What is packed is changed and packed again, or is far more than the file.
pub fn idx_gzip(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let mut all = Vec::new();
    if flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut all).is_err() || all.len() < 16 {
        return;
    }
    idx(&mut all, dice);
    if dice.one_in(16) {
        all.resize(1 << (16 + dice.below(6)), 0);
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&all).unwrap();
    *bytes = packed.finish().unwrap();
}
