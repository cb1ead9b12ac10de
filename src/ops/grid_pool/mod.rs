//! Means of a grid of windows (PyTorch's `adaptive_avg_pool2d`), as a pyramid of pooled maps takes them (Zhao et al.
//! 2017, arXiv 1612.01105): of `x [N, S, S, C]` the map `y [N, B, B, C]`, whose bin i has on either axis the pixels
//! from ⌊i·S/B⌋ up to ⌈(i + 1)·S/B⌉; bins may share pixels, and there may be more bins than pixels.
//!
//! FLOPs: one per value of a window. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::ops::Range;

use rayon::prelude::*;

use super::reduce::add;
use super::simd::vectorize;

/// Sizes: `n` maps of `side²` pixels of `c` channels, pooled to `bins²`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub side: usize,
    pub bins: usize,
    pub c: usize,
}

impl Shape {
    /// Values before and behind.
    pub fn lens(self) -> [usize; 2] {
        [self.side, self.bins].map(|side| self.n * side * side * self.c)
    }

    /// Bytes moved by [`forward`] and [`backward`], with values of `size` bytes.
    pub fn bytes(self, size: usize) -> [f64; 2] {
        let [before, behind] = self.lens();
        [before + behind, 2 * before + behind].map(|values| (size * values) as f64)
    }

    pub(super) fn check(self, x: usize, y: usize) {
        let fits = x > 0 && y > 0 && self.side < 1 << 15 && self.bins < 1 << 15;
        assert!(fits && [x, y] == self.lens(), "grid pool: {x} to {y} of {self:?}");
    }

    /// The pixels of `bin` on an axis.
    fn pixels(self, bin: usize) -> Range<usize> {
        bin * self.side / self.bins..((bin + 1) * self.side).div_ceil(self.bins)
    }

    /// The bins that have `pixel` on an axis.
    fn bins_of(self, pixel: usize) -> Range<usize> {
        pixel * self.bins / self.side..((pixel + 1) * self.bins).div_ceil(self.side)
    }
}

/// `y [N, B, B, C]` of `x [N, S, S, C]`, summed in the order of the pixels.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], x: &[f32], shape: Shape) {
    shape.check(x.len(), y.len());
    let Shape { side, bins, c, .. } = shape;
    y.par_chunks_exact_mut(c).enumerate().for_each(|(bin, y)| {
        let map = &x[bin / (bins * bins) * side * side * c..][..side * side * c];
        let [rows, columns] = [bin / bins % bins, bin % bins].map(|bin| shape.pixels(bin));
        let share = 1.0 / (rows.len() * columns.len()) as f32;
        vectorize(
            #[inline(always)]
            || {
                y.fill(0.0);
                for row in rows {
                    for column in columns.clone() {
                        add(y, &map[(row * side + column) * c..][..c]);
                    }
                }
                y.iter_mut().for_each(|y| *y *= share);
            },
        );
    });
}

/// Adds to `dx [N, S, S, C]` the gradient `dy [N, B, B, C]`, gathered in the order of the bins.
///
/// # Panics
/// If lengths do not fit.
pub fn backward(dx: &mut [f32], dy: &[f32], shape: Shape) {
    shape.check(dx.len(), dy.len());
    let Shape { side, bins, c, .. } = shape;
    dx.par_chunks_exact_mut(c).enumerate().for_each(|(pixel, dx)| {
        let map = &dy[pixel / (side * side) * bins * bins * c..][..bins * bins * c];
        let [rows, columns] = [pixel / side % side, pixel % side].map(|pixel| shape.bins_of(pixel));
        for row in rows {
            for column in columns.clone() {
                let share = 1.0 / (shape.pixels(row).len() * shape.pixels(column).len()) as f32;
                let dy = &map[(row * bins + column) * c..][..c];
                vectorize(
                    #[inline(always)]
                    || dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += share * dy),
                );
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_knows_the_bins_that_have_it() {
        for (side, bins) in (1..20).flat_map(|side| (1..9).map(move |bins| (side, bins))) {
            let shape = Shape { n: 1, side, bins, c: 1 };
            for (pixel, bin) in (0..side).flat_map(|pixel| (0..bins).map(move |bin| (pixel, bin))) {
                let has = shape.pixels(bin).contains(&pixel);
                assert_eq!(shape.bins_of(pixel).contains(&bin), has, "{shape:?}: {pixel} in {bin}");
            }
        }
    }
}
