//! Negative cosine of rows and keys (BYOL, arXiv 2006.07733, equation 2): with unit rows `x [R, d]` and unit keys
//! `y [R, d]`, of which row i asks for that of row `(i + shift) mod R`,
//!
//! `L = factor/R·Σ_i ‖x_i − y_key(i)‖² = factor/R·Σ_i (2 − 2·x_i·y_key(i))`, and `dx_i = −2·factor/R·y_key(i)`, which
//! is the gradient for rows that are then scaled back from unit length.
//!
//! FLOPs: 3 per value. Bytes: 12 per value.

use rayon::prelude::*;

use super::simd::{sum, vectorize};

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// Rows per task.
const ROWS: usize = 64;

/// Sizes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub rows: usize,
    pub dim: usize,
    /// How far behind a row its key is, below `rows`.
    pub shift: usize,
    /// What the mean over rows is multiplied by.
    pub factor: f32,
}

impl Shape {
    pub(super) fn check(self, lengths: [usize; 3]) {
        let Self { rows, dim, shift, .. } = self;
        assert!(rows > 0 && dim > 0 && shift < rows, "cosine: {self:?}");
        assert!(lengths.iter().all(|&len| len == rows * dim), "cosine: {lengths:?} values for {self:?}");
    }

    /// What is multiplied with a key to be the gradient of its row.
    pub(super) fn scale(self) -> f32 {
        -2.0 * self.factor / self.rows as f32
    }
}

/// The loss, in f64; its gradient goes to `drows` (overwritten).
pub fn forward(drows: &mut [f32], rows: &[f32], keys: &[f32], shape: Shape) -> f64 {
    shape.check([drows.len(), rows.len(), keys.len()]);
    let (d, scale) = (shape.dim, shape.scale());
    let partials: Vec<f64> = drows
        .par_chunks_mut(ROWS * d)
        .zip(rows.par_chunks(ROWS * d))
        .enumerate()
        .map(|(block, (drows, rows))| {
            let mut loss = 0.0;
            for (i, (dx, x)) in drows.chunks_exact_mut(d).zip(rows.chunks_exact(d)).enumerate() {
                let key = (block * ROWS + i + shape.shift) % shape.rows;
                let y = &keys[key * d..(key + 1) * d];
                let product = vectorize(
                    #[inline(always)]
                    || {
                        dx.iter_mut().zip(y).for_each(|(dx, y)| *dx = scale * y);
                        sum(d, |c| x[c] * y[c])
                    },
                );
                loss += 2.0 - 2.0 * f64::from(product);
            }
            loss
        })
        .collect();
    f64::from(shape.factor) * partials.iter().sum::<f64>() / shape.rows as f64
}
