//! Valid bytes made wrong: what is done to any file, and to one whose structure is known, so that the change reaches
//! what lies behind lengths, checksums and brackets.

mod binary;
mod text;

use stablerep::rng::{Domain, Stream};

/// How files of a kind are changed beside bytes at random places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Nothing is known.
    Bytes,
    /// Lines and fields.
    Text,
    Json,
    Toml,
    Safetensors,
    /// Headers of 512 bytes with a checksum.
    Tar,
    /// Chunks with a checksum.
    Png,
    /// Markers and segments with a length.
    Jpeg,
    /// A big-endian head.
    Idx,
    /// The same behind gzip.
    IdxGzip,
}

impl Structure {
    /// Bytes of memory that a byte of a file may cost.
    pub fn unfolds(self) -> usize {
        match self {
            // A byte of deflate is 1032 at most, each of them eight black or white pixels: of one byte, then of three.
            Self::Png | Self::Tar => 1032 * 8 * (1 + 3),
            // A byte is 512 pixels at most: of four coefficients of two bytes, four inks, three colours.
            Self::Jpeg => 512 * (4 * 2 + 4 + 3),
            // A label is a byte, then three numbers of four; a list of them may be twice as long as it is full.
            Self::IdxGzip => 1032 * 2 * (1 + 3 * 4),
            // A list of digits is one of values.
            _ => 256,
        }
    }
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
        // Whatever bytes are changed blindly, most formats see at once.
        let known = structure != Structure::Bytes && !dice.one_in(6);
        match structure {
            Structure::Text if known => text::lines(&mut bytes, dice),
            Structure::Json if known => text::json_file(&mut bytes, dice),
            Structure::Toml if known => text::toml_file(&mut bytes, dice),
            Structure::Safetensors if known => binary::safetensors(&mut bytes, dice),
            Structure::Tar if known => binary::tar(&mut bytes, dice),
            Structure::Png if known => binary::png(&mut bytes, dice),
            Structure::Jpeg if known => binary::jpeg(&mut bytes, dice),
            Structure::Idx if known => binary::idx(&mut bytes, dice),
            Structure::IdxGzip if known => binary::idx_gzip(&mut bytes, dice),
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
