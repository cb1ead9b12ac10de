//! The 3×3 neighbourhood of every pixel, what a 3×3 convolution of padding 1 multiplies: of a map `x [N, S, S, C]` the
//! rows `y [N·S², 9·C]` in the order (row, column, channel), zeros beyond the border. With the weight `[O, C, 3, 3]` of
//! PyTorch's `conv2d` kept as `[O, 3, 3, C]`, the convolution is a linear layer of these rows.
//!
//! FLOPs: none forward, 9 per value of the map backward. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::reduce::add;
use super::simd::vectorize;

/// Pixels of a neighbourhood.
pub const TAPS: usize = 9;

/// Sizes: `n` maps of `side²` pixels of `c` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub side: usize,
    pub c: usize,
}

impl Shape {
    /// Values of the maps and of their neighbourhoods.
    pub fn lens(self) -> [usize; 2] {
        let values = self.n * self.side * self.side * self.c;
        [values, TAPS * values]
    }

    /// Bytes moved either way, with values of `size` bytes.
    pub fn bytes(self, size: usize) -> f64 {
        (size * self.lens().iter().sum::<usize>()) as f64
    }

    pub(super) fn check(self, map: usize, rows: usize) {
        assert!(map > 0 && [map, rows] == self.lens(), "neighbourhoods: {map} to {rows} of {self:?}");
    }

    /// The pixel at `row` and `column`, which count from the border of zeros around the map; nothing on that border.
    fn pixel(self, row: usize, column: usize) -> Option<usize> {
        let inside = 1..=self.side;
        (inside.contains(&row) && inside.contains(&column)).then(|| (row - 1) * self.side + column - 1)
    }
}

/// `y [N·S², 9·C]` of `x [N, S, S, C]`.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], x: &[f32], shape: Shape) {
    shape.check(x.len(), y.len());
    let Shape { side, c, .. } = shape;
    y.par_chunks_exact_mut(side * TAPS * c).enumerate().for_each(|(line, y)| {
        let (map, row) = (&x[line / side * side * side * c..][..side * side * c], line % side);
        for (column, y) in y.chunks_exact_mut(TAPS * c).enumerate() {
            for (tap, y) in y.chunks_exact_mut(c).enumerate() {
                match shape.pixel(row + tap / 3, column + tap % 3) {
                    Some(pixel) => y.copy_from_slice(&map[pixel * c..][..c]),
                    None => y.fill(0.0),
                }
            }
        }
    });
}

/// `dx [N, S, S, C]` from the gradient `dy [N·S², 9·C]`: every pixel sums up what its neighbours hold of it, in the
/// order of the places that it has with them.
///
/// # Panics
/// If lengths do not fit.
pub fn backward(dx: &mut [f32], dy: &[f32], shape: Shape) {
    shape.check(dx.len(), dy.len());
    let Shape { side, c, .. } = shape;
    dx.par_chunks_exact_mut(side * c).enumerate().for_each(|(line, dx)| {
        let (image, row) = (line / side * side * side, line % side);
        for (column, dx) in dx.chunks_exact_mut(c).enumerate() {
            dx.fill(0.0);
            for tap in 0..TAPS {
                let Some(pixel) = shape.pixel(row + 2 - tap / 3, column + 2 - tap % 3) else { continue };
                let dy = &dy[((image + pixel) * TAPS + tap) * c..][..c];
                vectorize(
                    #[inline(always)]
                    || add(dx, dy),
                );
            }
        }
    });
}
