//! Channels of an image left out whole (PyTorch's `dropout2d`; Tompson et al. 2015, arXiv 1411.4280): the values of
//! `x [N, pixels, C]` times `scale`, one over the share of channels that are kept, or 0. The gradient is treated alike.
//!
//! FLOPs: one per value. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::simd::vectorize;

/// Sizes: `n` images of `pixels` of `c` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub pixels: usize,
    pub c: usize,
}

impl Shape {
    /// Values of the images.
    pub fn len(self) -> usize {
        self.n * self.pixels * self.c
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes moved, with values of `size` bytes.
    pub fn bytes(self, size: usize) -> f64 {
        (2 * size * self.len() + 4 * self.n * self.c) as f64
    }

    pub(super) fn check(self, x: usize, kept: usize) {
        assert!(x > 0 && x == self.len() && kept == self.n * self.c, "drop channels: {x} by {kept} of {self:?}");
    }
}

/// Turns `x [N, pixels, C]` into `scale·x` where the number in `kept [N, C]` is not 0, else into 0.
///
/// # Panics
/// If lengths do not fit.
pub fn apply(x: &mut [f32], kept: &[u32], scale: f32, shape: Shape) {
    shape.check(x.len(), kept.len());
    let Shape { pixels, c, .. } = shape;
    x.par_chunks_exact_mut(c).enumerate().for_each(|(pixel, x)| {
        let kept = &kept[pixel / pixels * c..][..c];
        vectorize(
            #[inline(always)]
            || x.iter_mut().zip(kept).for_each(|(x, &kept)| *x = if kept == 0 { 0.0 } else { scale * *x }),
        );
    });
}
