//! Stochastic depth (Huang et al. 2016, arXiv 1603.09382): an image leaves a residual branch out, or takes it times
//! `scale`, one over the share of images that keep it, so that its mean stays what it was.
//!
//! FLOPs: two per value forward, one backward. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::simd::vectorize;

/// Sizes: of `n` images each, `rows` of `d` values leave the branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub rows: usize,
    pub d: usize,
}

impl Shape {
    /// Values of a branch.
    pub fn len(self) -> usize {
        self.n * self.rows * self.d
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes moved where every image keeps its branch, with values of `size` bytes, by [`forward`] and [`backward`].
    pub fn bytes(self, size: usize) -> [f64; 2] {
        [3, 2].map(|times| (times * size * self.len()) as f64)
    }
}

/// `y = residual + scale·y` for images whose number in `kept [N]` is not 0, `y = residual` for the others; y is
/// `[N, rows, D]` and row i of the residual begins at i·stride.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], (residual, stride): (&[f32], usize), kept: &[u32], scale: f32, shape: Shape) {
    let Shape { n, rows, d } = shape;
    let fits = y.len() == shape.len() && kept.len() == n && residual.len() >= (n * rows - 1) * stride + d;
    assert!(fits, "drop path: {} of {shape:?}, {} by {stride}", y.len(), residual.len());
    y.par_chunks_exact_mut(rows * d).zip(kept).enumerate().for_each(|(image, (y, &kept))| {
        for (row, y) in y.chunks_exact_mut(d).enumerate() {
            let residual = &residual[(image * rows + row) * stride..][..d];
            if kept == 0 {
                y.copy_from_slice(residual);
                continue;
            }
            vectorize(
                #[inline(always)]
                || y.iter_mut().zip(residual).for_each(|(y, residual)| *y = scale.mul_add(*y, *residual)),
            );
        }
    });
}

/// `dx`: `scale·dy` for images whose number in `kept [N]` is not 0, 0 for the others.
///
/// # Panics
/// If lengths do not fit.
pub fn backward(dx: &mut [f32], dy: &[f32], kept: &[u32], scale: f32, shape: Shape) {
    let Shape { n, rows, d } = shape;
    let fits = dx.len() == shape.len() && dy.len() == dx.len() && kept.len() == n;
    assert!(fits, "drop path: {} from {} of {shape:?}", dx.len(), dy.len());
    let image = rows * d;
    dx.par_chunks_exact_mut(image).zip(dy.par_chunks_exact(image)).zip(kept).for_each(|((dx, dy), &kept)| match kept {
        0 => dx.fill(0.0),
        _ => dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = scale * dy),
    });
}
