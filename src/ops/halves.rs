//! Rows of f32 as two bf16 halves each, v = hi + lo, which `kernels/common/split_product.cuh` multiplies on matrix
//! units: of v less than 2⁻¹⁷ is lost.
//!
//! A row of d values is ⌈d/32⌉ pieces of 32 words: 32 upper halves, then the lower ones, two to a word, zeros behind
//! the last value. It takes as many bytes as the f32 would, rounded up to a piece.

use half::bf16;

use crate::device::cuda::View;
use crate::device::cuda::kernels::contrastive::PIECE;

/// Pieces of a row of `d` values.
pub fn pieces(d: usize) -> usize {
    d.div_ceil(PIECE)
}

/// Words of `rows` rows of `d` values.
pub fn words(rows: usize, d: usize) -> usize {
    rows * pieces(d) * PIECE
}

/// Some columns of rows: `channels` from `first`, a whole piece's, of rows of `of` values.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub rows: View<u32>,
    pub of: usize,
    pub first: usize,
    pub channels: usize,
}

impl Columns {
    /// All columns.
    pub fn all(rows: View<u32>, channels: usize) -> Self {
        Self { rows, of: channels, first: 0, channels }
    }

    /// The piece that they begin with, and pieces of a whole row.
    ///
    /// # Panics
    /// If they do not begin with a piece, or end within one that others begin with, or there are not `rows` rows.
    pub(super) fn place(self, rows: usize) -> [usize; 2] {
        let Self { of, first, channels, .. } = self;
        let (behind, begins) = (first + channels, first.is_multiple_of(PIECE));
        assert!(
            begins && behind <= of && (behind == of || channels.is_multiple_of(PIECE)),
            "halves: columns {first} to {behind} of {of} are no whole pieces of {PIECE}"
        );
        assert_eq!(self.rows.len(), words(rows, of), "halves: {rows} rows of {of} values");
        [first / PIECE, pieces(of)]
    }
}

/// Rows of `d` values, split.
pub fn split(x: &[f32], d: usize) -> Vec<u32> {
    let mut all = vec![0; words(x.len() / d, d)];
    for (line, row) in all.chunks_exact_mut(words(1, d)).zip(x.chunks_exact(d)) {
        for (i, &value) in row.iter().enumerate() {
            let high = bf16::from_f32(value);
            let low = bf16::from_f32(value - high.to_f32());
            let (word, upper) = (i / PIECE * PIECE + i % PIECE / 2, i % 2 * 16);
            line[word] |= u32::from(high.to_bits()) << upper;
            line[word + PIECE / 2] |= u32::from(low.to_bits()) << upper;
        }
    }
    all
}

/// The rows of `d` values that were split: sums of two halves, which are exact.
pub fn joined(words: &[u32], d: usize) -> Vec<f32> {
    let half = |word: u32, upper: usize| bf16::from_bits((word >> upper) as u16).to_f32();
    let value = |line: &[u32], i: usize| {
        let (word, upper) = (i / PIECE * PIECE + i % PIECE / 2, i % 2 * 16);
        half(line[word], upper) + half(line[word + PIECE / 2], upper)
    };
    words.chunks_exact(pieces(d) * PIECE).flat_map(|line| (0..d).map(move |i| value(line, i))).collect()
}
