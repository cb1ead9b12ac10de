//! The mean of an image's patch tokens, which is its feature when a ViT pools globally: of `x [N, T, D]`, whose first
//! token is the class token, `y [N, D] = Σ_{t≥1} x_t / (T − 1)`, summed in the order of the tokens.
//!
//! FLOPs: 1 per value. Bytes: the values, once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::simd::vectorize;

/// Sizes: `n` images of `tokens`, the class token among them, of `d` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub tokens: usize,
    pub d: usize,
}

impl Shape {
    /// Bytes moved, with values of `size` bytes.
    pub fn bytes(self, size: usize) -> f64 {
        (size * self.n * self.tokens * self.d) as f64
    }

    /// One over the number of tokens that are averaged.
    pub(super) fn share(self) -> f32 {
        1.0 / (self.tokens - 1) as f32
    }

    pub(super) fn check(self, x: usize, y: usize) {
        let Self { n, tokens, d } = self;
        assert!(n > 0 && tokens > 1 && d > 0, "token mean: {self:?}");
        assert!(x == n * tokens * d && y == n * d, "token mean: {x} to {y} of {self:?}");
    }
}

/// `y [N, D]` of `x [N, T, D]`.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], x: &[f32], shape: Shape) {
    shape.check(x.len(), y.len());
    let Shape { tokens, d, .. } = shape;
    let share = shape.share();
    y.par_chunks_exact_mut(d).zip(x.par_chunks_exact(tokens * d)).for_each(|(y, x)| {
        vectorize(
            #[inline(always)]
            || {
                y.fill(0.0);
                for token in x[d..].chunks_exact(d) {
                    y.iter_mut().zip(token).for_each(|(y, x)| *y += x);
                }
                y.iter_mut().for_each(|y| *y *= share);
            },
        );
    });
}

/// `dx [N, T, D]` from the gradient `dy [N, D]`: nothing for class tokens.
///
/// # Panics
/// If lengths do not fit.
pub fn backward(dx: &mut [f32], dy: &[f32], shape: Shape) {
    shape.check(dx.len(), dy.len());
    let Shape { tokens, d, .. } = shape;
    let share = shape.share();
    dx.par_chunks_exact_mut(tokens * d).zip(dy.par_chunks_exact(d)).for_each(|(dx, dy)| {
        let (class, patches) = dx.split_at_mut(d);
        class.fill(0.0);
        for token in patches.chunks_exact_mut(d) {
            token.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = share * dy);
        }
    });
}
