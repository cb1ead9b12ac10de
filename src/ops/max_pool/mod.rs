//! The largest of every 2×2 pixels, stride 2 (PyTorch's `max_pool2d(2)`): of `x [N, S, S, C]` the map
//! `y [N, ⌊S/2⌋, ⌊S/2⌋, C]`; the last row and column of an odd side are not looked at. The gradient goes to the first
//! of equal ones in reading order; what is no number counts as larger than any.
//!
//! FLOPs: 3 per value of y. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::conv2d::{self, Window};
use super::pool::{self, Pool};
use super::simd::vectorize;

/// Sizes: `n` maps of `side²` pixels of `c` channels before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub side: usize,
    pub c: usize,
}

impl Shape {
    /// Values before and behind.
    pub fn lens(self) -> [usize; 2] {
        [self.side, self.side / 2].map(|side| self.n * side * side * self.c)
    }

    /// Bytes moved by [`forward`] and [`backward`], with values of `size` bytes.
    pub fn bytes(self, size: usize) -> [f64; 2] {
        let [before, behind] = self.lens();
        [before + behind, 2 * before + behind].map(|values| (size * values) as f64)
    }

    pub(super) fn check(self, x: usize, y: usize) {
        assert!(y > 0 && [x, y] == self.lens(), "max pool: {x} to {y} of {self:?}");
    }
}

/// `y [N, ⌊S/2⌋, ⌊S/2⌋, C]` of `x [N, S, S, C]`.
///
/// # Panics
/// If lengths do not fit or the side is 1.
pub fn forward(y: &mut [f32], x: &[f32], shape: Shape) {
    shape.check(x.len(), y.len());
    let Shape { n, side, c, .. } = shape;
    let window = Window::inside(2, 2);
    pool::forward(y, x, Pool::Max, conv2d::Shape { n, height: side, width: side, channels: c, window });
}

/// `dx [N, S, S, C]` from the gradient `dy [N, ⌊S/2⌋, ⌊S/2⌋, C]` and `x`.
///
/// # Panics
/// As [`forward`].
pub fn backward(dx: &mut [f32], dy: &[f32], x: &[f32], shape: Shape) {
    shape.check(dx.len(), dy.len());
    assert_eq!(x.len(), dx.len(), "max pool: x of {shape:?}");
    let Shape { side, c, .. } = shape;
    let half = side / 2;
    dx.par_chunks_exact_mut(side * c).enumerate().for_each(|(line, dx)| {
        let (map, row) = (&x[line / side * side * side * c..][..side * side * c], line % side);
        for (column, dx) in dx.chunks_exact_mut(c).enumerate() {
            if row / 2 == half || column / 2 == half {
                dx.fill(0.0);
                continue;
            }
            let corner = row / 2 * 2 * side + column / 2 * 2;
            let window = [0, 1, side, side + 1].map(|by| &map[(corner + by) * c..][..c]);
            let dy = &dy[(line / side * half * half + row / 2 * half + column / 2) * c..][..c];
            let own = row % 2 * 2 + column % 2;
            vectorize(
                #[inline(always)]
                || {
                    for (i, (dx, dy)) in dx.iter_mut().zip(dy).enumerate() {
                        let (mut top, mut first) = (window[0][i], 0);
                        for (place, pixels) in window.iter().enumerate().skip(1) {
                            if pixels[i] > top || pixels[i].is_nan() {
                                (top, first) = (pixels[i], place);
                            }
                        }
                        *dx = if first == own { *dy } else { 0.0 };
                    }
                },
            );
        }
    });
}
