//! Heads as all kernels of attention take them.

use crate::device::cuda::{Half, View};
use crate::ops::attention::Shape;

/// Most values of a head: [`forward`](super::forward) up to `WIDE`, [`cross`](super::cross) up to `WIDTH`.
pub(super) const WIDTH: usize = 160;
pub(super) const WIDE: usize = 512;
/// Most keys of a context of [`cross`](super::cross).
pub(super) const CONTEXT: usize = 128;

/// Tokens whose heads lie one after the other: value c of head h of token t of image n is
/// `x[(n·T + t)·stride + h·d + c]`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<T> {
    pub x: View<T>,
    /// Values from one token to the next.
    pub stride: usize,
}

impl<T: Half> Heads<T> {
    /// Part `part` of `parts` that lie side by side in each token, `width` values each: q of packed `[…, 3C]` is part 0
    /// of 3.
    pub fn part(packed: View<T>, part: usize, parts: usize, width: usize) -> Self {
        Self { x: packed.slice(part * width..packed.len()), stride: parts * width }
    }

    pub(super) fn check(self, what: &str, rows: usize, width: usize) {
        let Self { x, stride } = self;
        assert!(
            stride >= width && x.len() >= (rows - 1) * stride + width,
            "attention: {what} has {} values for {rows} tokens of {width}, {stride} apart",
            x.len()
        );
        assert!(
            x.is_aligned(16) && stride.is_multiple_of(8),
            "attention: {what} at {:#x}, tokens {stride} values apart: not whole 16 bytes",
            x.address()
        );
    }
}

/// What scores are multiplied by.
pub(super) fn scale(shape: Shape) -> f32 {
    (shape.head_dim as f32).powf(-0.5)
}
