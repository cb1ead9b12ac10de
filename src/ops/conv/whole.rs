//! Maps of 2×2 pixels as a whole: every result sees every pixel, through one tap each, so that a convolution is a
//! linear layer from 4·C to 4·N values. It multiplies 16 times per pair of channels where [`super::direct`] does 36
//! times, 20 of them with padding, and reads the map where it lies.

use super::shape::Shape;
use crate::ops::gemm::{Begin, Operands, Threads};
use crate::ops::packed::{First, Packed, Start, linear};

/// Height and width.
const SIDE: usize = 2;

/// Times a pair of channels is held.
pub(super) const PLACES: usize = SIDE * SIDE * SIDE * SIDE;

/// Most pairs of channels: wide layers see such maps in pictures of 16 pixels only.
const MOST: usize = 320 * 320;

/// Whether a layer may be computed so.
pub(super) fn is_for((channels, outputs): (usize, usize), stride: usize) -> bool {
    stride == 1 && channels * outputs <= MOST
}

/// Whether a map is one of these.
pub(super) fn fits(shape: Shape) -> bool {
    (shape.height, shape.width, shape.enlarge) == (SIDE, SIDE, None)
}

/// From PyTorch's order `[N, C, 3, 3]`.
pub(super) fn packed(w: &[f32], (channels, outputs): (usize, usize), operands: Operands) -> Packed {
    let pixels = SIDE * SIDE;
    let mut all = vec![0.0; PLACES * channels * outputs];
    for (at, value) in all.iter_mut().enumerate() {
        let (output, input) = (at / (pixels * channels), at % (pixels * channels));
        let ((to, n), (from, c)) = ((output / outputs, output % outputs), (input / channels, input % channels));
        let (ky, kx) = (from / SIDE + 1 - to / SIDE, from % SIDE + 1 - to % SIDE);
        *value = w[(n * channels + c) * 9 + 3 * ky + kx];
    }
    Packed::from_out_in(&all, None, pixels * outputs, pixels * channels, operands)
}

/// As [`super::forward`].
pub(super) fn forward(y: &mut [f32], x: &[f32], w: &Packed, first: First<'_>, threads: Threads) {
    match first.begin(y, 0) {
        Begin::Zero => linear(y, x, w, Start::Bias, threads),
        Begin::Result => linear(y, x, w, Start::Keep, threads),
        Begin::Row(row) => linear(y, x, w, Start::Row(&row.repeat(SIDE * SIDE)), threads),
        Begin::Rows(rows) => linear(y, x, w, Start::Residual(rows), threads),
    }
}
