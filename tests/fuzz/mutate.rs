//! Valid bytes made wrong: what is done to any file, and to one whose structure is known, so that the change reaches what
//! lies behind lengths, checksums and brackets.

use serde_json::{Map, Value, json};
use stablerep::rng::{Domain, Stream};

/// How files of a kind are changed beside bytes at random places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Nothing is known.
    Bytes,
    /// Lines and fields.
    Text,
    Json,
    Safetensors,
    /// Headers of 512 bytes with a checksum.
    Tar,
    /// Chunks with a checksum.
    Png,
    /// Markers and segments with a length.
    Jpeg,
    /// A big-endian head.
    Idx,
}

/// The random numbers of one input.
pub struct Dice(Stream);

impl Dice {
    pub fn new(reader: u32, input: u32) -> Self {
        Self(Stream::new(0, Domain::SelfTest, [0x0066_757a, reader, input]))
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0.below(n.max(1))
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        // Short pieces more often than long ones.
        let most = 1 << self.below(12);
        start..(start + self.below(most + 1)).min(length)
    }
}

/// A changed copy of one of `valid`.
pub fn mutated(valid: &[Vec<u8>], structure: Structure, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = dice.pick(valid).clone();
    for _ in 0..=dice.below(3) {
        let known = structure != Structure::Bytes && !dice.one_in(3);
        match structure {
            Structure::Text if known => text(&mut bytes, dice),
            Structure::Json if known => json_file(&mut bytes, dice),
            Structure::Safetensors if known => safetensors(&mut bytes, dice),
            Structure::Tar if known => tar(&mut bytes, dice),
            Structure::Png if known => png(&mut bytes, dice),
            Structure::Jpeg if known => jpeg(&mut bytes, dice),
            Structure::Idx if known => idx(&mut bytes, dice),
            _ => anywhere(&mut bytes, valid, dice),
        }
    }
    bytes
}

const ODD_BYTES: [u8; 10] = [0, 1, 9, 10, 13, 34, 44, 127, 128, 255];

fn anywhere(bytes: &mut Vec<u8>, valid: &[Vec<u8>], dice: &mut Dice) {
    let range = dice.range(bytes.len());
    match dice.below(8) {
        0 => bytes.truncate(range.start),
        1 => drop(bytes.drain(range)),
        2 => bytes[range].iter_mut().for_each(|byte| *byte = 0),
        3 => {
            let piece = bytes[range].to_vec();
            let at = dice.below(bytes.len() + 1);
            bytes.splice(at..at, piece);
        }
        4 => {
            let other = dice.pick(valid).clone();
            let piece = dice.range(other.len());
            bytes.splice(range, other[piece].iter().copied());
        }
        5 => {
            let piece = vec![*dice.pick(&ODD_BYTES); 1 + dice.below(40)];
            bytes.splice(range.start..range.start, piece);
        }
        _ if bytes.is_empty() => {}
        6 => {
            let at = dice.below(bytes.len());
            bytes[at] = *dice.pick(&ODD_BYTES);
        }
        _ => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
    }
}

const ODD_WORDS: [&str; 22] = [
    "",
    "0",
    "-1",
    "1e999",
    "-0",
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "true",
    "18446744073709551616",
    "4294967295",
    "9223372036854775807",
    "1e-320",
    "\"",
    "\"\"",
    "\u{feff}",
    "\u{0}",
    "\\u0000",
    "é",
    "\u{1F600}",
    "[[[[[[[[",
];

/// A word becomes another, a line goes, comes twice, or is long.
fn text(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let mut lines = lines;
    let at = dice.below(lines.len());
    match dice.below(6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = dice.below(lines.len());
            lines.swap(at, other);
        }
        3 => lines[at] = lines[at].repeat(1 << dice.below(12)),
        _ => {
            let line = &mut lines[at];
            let start = dice.below(line.len() + 1);
            let length = line[start..].iter().take_while(|&&byte| is_word(byte)).count();
            line.splice(start..start + length, dice.pick(&ODD_WORDS).bytes());
        }
    }
    *bytes = lines.concat();
}

fn odd_value(dice: &mut Dice) -> Value {
    match dice.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1),
        5 => json!(0.5),
        6 => json!(u64::MAX),
        7 => json!(2_000_000_000),
        8 => json!(1e300),
        9 => json!(""),
        10 => json!("x".repeat(1 << dice.below(17))),
        11 => json!([]),
        12 => json!({}),
        13 => json!([[], {}, null, -1]),
        14 => json!(vec![json!(1); 1 << dice.below(12)]),
        _ => (0..1 << dice.below(8)).fold(json!(1), |inner, _| json!([inner])),
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(all) => all.iter().map(nodes).sum::<usize>(),
        Value::Object(all) => all.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Calls `change` with the node of this number, its parent first.
fn at_node(value: &mut Value, number: &mut usize, change: &mut dyn FnMut(&mut Value)) {
    if *number == 0 {
        change(value);
    }
    *number = number.wrapping_sub(1);
    match value {
        Value::Array(all) => all.iter_mut().for_each(|value| at_node(value, number, change)),
        Value::Object(all) => all.values_mut().for_each(|value| at_node(value, number, change)),
        _ => {}
    }
}

fn change_node(value: &mut Value, dice: &mut Dice) {
    match (value, dice.below(5)) {
        (Value::Object(all), 0..4) if !all.is_empty() => {
            let key = all.keys().nth(dice.below(all.len())).cloned().unwrap();
            let entry = all.remove(&key).unwrap();
            match dice.below(3) {
                0 => {}
                1 => drop(all.insert(dice.pick(&ODD_WORDS).to_string(), entry)),
                _ => drop(all.insert(format!("{key}{key}"), entry)),
            }
        }
        (Value::Array(all), 0..4) if !all.is_empty() => {
            let at = dice.below(all.len());
            match dice.below(3) {
                0 => drop(all.remove(at)),
                1 => all.insert(at, all[at].clone()),
                _ => {
                    let other = dice.below(all.len());
                    all.swap(at, other);
                }
            }
        }
        (Value::String(text), 0..3) => match dice.below(3) {
            0 => *text = dice.pick(&ODD_WORDS).to_string(),
            1 => *text += *dice.pick::<&str>(&ODD_WORDS),
            _ => drop(text.pop()),
        },
        (value, _) => *value = odd_value(dice),
    }
}

fn json_value(value: &mut Value, dice: &mut Dice) {
    let mut number = dice.below(nodes(value));
    at_node(value, &mut number, &mut |node| change_node(node, dice));
}

fn json_file(bytes: &mut Vec<u8>, dice: &mut Dice) {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => {
            json_value(&mut value, dice);
            *bytes = serde_json::to_vec(&value).unwrap();
        }
        // JSON as Python writes it, or changed already.
        Err(_) => text(bytes, dice),
    }
}

/// The header is changed and its length put right, or the length alone.
fn safetensors(bytes: &mut Vec<u8>, dice: &mut Dice) {
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

fn tar(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let blocks = bytes.len() / BLOCK;
    if blocks == 0 {
        return;
    }
    let headers: Vec<usize> = (0..blocks).filter(|block| bytes[block * BLOCK + 257..].starts_with(b"ustar")).collect();
    let at = if headers.is_empty() { dice.below(blocks) } else { *dice.pick(&headers) } * BLOCK;
    match dice.below(5) {
        0 => drop(bytes.drain(at..at + BLOCK)),
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
            let header = &mut bytes[at..at + BLOCK];
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

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

fn png(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let all = chunks(bytes);
    if all.is_empty() {
        return;
    }
    let (at, length) = *dice.pick(&all);
    match dice.below(4) {
        0 => drop(bytes.drain(at..at + 12 + length)),
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
            let mut sum = flate2::Crc::new();
            sum.update(&bytes[at + 4..at + 8 + length]);
            bytes[at + 8 + length..at + 12 + length].copy_from_slice(&sum.sum().to_be_bytes());
        }
    }
}

fn jpeg(bytes: &mut Vec<u8>, dice: &mut Dice) {
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
    match dice.below(4) {
        0 => drop(bytes.drain(at..at + length)),
        1 => {
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

fn idx(bytes: &mut [u8], dice: &mut Dice) {
    if bytes.len() < 16 {
        return;
    }
    let odd = *dice.pick(&[0u32, 1, 2, 255, 65_536, u32::MAX, 1 << 31, 2051, 2049]);
    let at = 4 * dice.below(4);
    bytes[at..at + 4].copy_from_slice(&odd.to_be_bytes());
}
