//! Sums over long axes in chunks fixed by the shape, so that results do not depend on the number of threads.
//!
//! FLOPs: one add per value (norm: a multiply and an add). Bytes: one read of the input.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::simd::vectorize;

/// Rows per partial sum of [`add_column_sums`].
const ROWS: usize = 128;
/// Values per partial sum of [`sum_of_squares`].
const VALUES: usize = 1 << 15;

/// `out[c] += Σ_r x[r, c]` for row-major `x [rows, out.len()]`.
pub fn add_column_sums(out: &mut [f32], x: &[f32]) {
    let cols = out.len();
    assert!(cols > 0 && x.len().is_multiple_of(cols), "column sums: {} values are not rows of {cols}", x.len());
    let partials: Vec<Vec<f32>> = x
        .par_chunks(ROWS * cols)
        .map(|rows| {
            let mut sum = vec![0.0; cols];
            vectorize(
                #[inline(always)]
                || rows.chunks_exact(cols).for_each(|row| add(&mut sum, row)),
            );
            sum
        })
        .collect();
    vectorize(
        #[inline(always)]
        || partials.iter().for_each(|partial| add(out, partial)),
    );
}

/// `y += x`, elementwise. Call inside [`vectorize`].
#[inline(always)]
pub fn add(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// `Σ x²` in f64.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let partials: Vec<f64> = x
        .par_chunks(VALUES)
        .map(|chunk| {
            vectorize(
                #[inline(always)]
                || {
                    let mut lanes = [0.0f64; 16];
                    let (body, tail) = chunk.split_at(chunk.len() / 16 * 16);
                    for values in body.chunks_exact(16) {
                        for (lane, &v) in lanes.iter_mut().zip(values) {
                            *lane += f64::from(v) * f64::from(v);
                        }
                    }
                    for (lane, &v) in lanes.iter_mut().zip(tail) {
                        *lane += f64::from(v) * f64::from(v);
                    }
                    lanes.iter().sum()
                },
            )
        })
        .collect();
    partials.iter().sum()
}

/// Whether every value is a finite number.
pub fn all_finite(x: &[f32]) -> bool {
    x.par_chunks(VALUES).all(|chunk| {
        // v·0 is 0 for finite v and NaN otherwise: one branch-free pass.
        vectorize(
            #[inline(always)]
            || super::simd::sum(chunk.len(), |i| chunk[i] * 0.0),
        ) == 0.0
    })
}

/// FLOPs of [`add_column_sums`] over `rows × cols`.
pub fn flops(rows: usize, cols: usize) -> f64 {
    (rows * cols) as f64
}

/// Bytes read and written by [`add_column_sums`] over `rows × cols`.
pub fn bytes(rows: usize, cols: usize) -> f64 {
    4.0 * (rows * cols + 2 * cols) as f64
}
