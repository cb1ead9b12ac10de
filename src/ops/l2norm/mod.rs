//! Scaling of each row to unit length: `y = x / max(‖x‖, eps)`, as `torch.nn.functional.normalize`.
//!
//! FLOPs per value: forward 3, backward 5. Bytes per value: forward 8, backward 12.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::simd::{sum, vectorize};

/// Rows per task.
const ROWS: usize = 64;

/// `x`, `y`: `[rows, d]`; `norms`: `[rows]`, ‖x‖ of each row, kept for [`backward`].
pub fn forward(y: &mut [f32], norms: &mut [f32], x: &[f32], eps: f32) {
    let d = row_length(x, norms);
    assert_eq!(y.len(), x.len(), "l2norm: y");
    let blocks = y.par_chunks_mut(ROWS * d).zip(norms.par_chunks_mut(ROWS)).zip(x.par_chunks(ROWS * d));
    blocks.for_each(|((y, norms), x)| {
        vectorize(
            #[inline(always)]
            || {
                for ((y, norm), x) in y.chunks_exact_mut(d).zip(norms).zip(x.chunks_exact(d)) {
                    *norm = sum(d, |i| x[i] * x[i]).sqrt();
                    let scale = 1.0 / norm.max(eps);
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * scale);
                }
            },
        )
    });
}

/// `dx = (dy − y·(y·dy)) / ‖x‖`, and `dy / eps` for rows shorter than `eps`.
pub fn backward(dx: &mut [f32], dy: &[f32], y: &[f32], norms: &[f32], eps: f32) {
    let d = row_length(y, norms);
    assert!(dx.len() == y.len() && dy.len() == y.len(), "l2norm: dx, dy");
    let blocks = dx.par_chunks_mut(ROWS * d).zip(dy.par_chunks(ROWS * d)).zip(y.par_chunks(ROWS * d));
    blocks.zip(norms.par_chunks(ROWS)).for_each(|(((dx, dy), y), norms)| {
        vectorize(
            #[inline(always)]
            || {
                let rows = dx.chunks_exact_mut(d).zip(dy.chunks_exact(d)).zip(y.chunks_exact(d));
                for (((dx, dy), y), &norm) in rows.zip(norms) {
                    let along = if norm > eps { sum(d, |i| y[i] * dy[i]) } else { 0.0 };
                    let scale = 1.0 / norm.max(eps);
                    for i in 0..d {
                        dx[i] = (dy[i] - y[i] * along) * scale;
                    }
                }
            },
        )
    });
}

fn row_length(x: &[f32], norms: &[f32]) -> usize {
    assert!(
        !norms.is_empty() && x.len().is_multiple_of(norms.len()),
        "l2norm: {} values, {} rows",
        x.len(),
        norms.len()
    );
    x.len() / norms.len()
}

/// FLOPs of forward and backward over `rows × d`.
pub fn flops(rows: usize, d: usize) -> (f64, f64) {
    (3.0 * (rows * d) as f64, 5.0 * (rows * d) as f64)
}

/// Bytes moved by forward and backward over `rows × d`.
pub fn bytes(rows: usize, d: usize) -> (f64, f64) {
    (8.0 * (rows * d) as f64, 12.0 * (rows * d) as f64)
}
