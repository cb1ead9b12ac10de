//! Layer normalisation over the last axis (Ba et al. 2016): `y = (x − mean)·rstd·gamma + beta`, biased variance.
//!
//! FLOPs per value: forward 8, backward 13. Memory-bound: see [`bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::gemm::Threads;
use super::reduce::add;
use super::simd::{sum, vectorize};

/// Rows per task, and per partial sum of the parameter gradients.
const ROWS: usize = 64;

/// `x`, `y`: `[rows, D]`; `stats`: `[rows, 2]`, mean and 1/√(variance + eps) of each row, kept for [`backward`].
pub fn forward(y: &mut [f32], stats: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) {
    let d = gamma.len();
    check(x, stats, d);
    assert!(y.len() == x.len() && beta.len() == d, "layernorm: y {} x {} beta {}", y.len(), x.len(), beta.len());
    y.par_chunks_mut(ROWS * d).zip(stats.par_chunks_mut(ROWS * 2)).zip(x.par_chunks(ROWS * d)).for_each(
        |((y, stats), x)| {
            vectorize(
                #[inline(always)]
                || {
                    for ((y, stats), x) in y.chunks_exact_mut(d).zip(stats.chunks_exact_mut(2)).zip(x.chunks_exact(d)) {
                        forward_row(y, stats, x, gamma, beta, eps);
                    }
                },
            )
        },
    );
}

#[inline(always)]
pub(super) fn forward_row(y: &mut [f32], stats: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) {
    let d = x.len();
    let (y, gamma, beta) = (&mut y[..d], &gamma[..d], &beta[..d]);
    let mean = sum(d, |i| x[i]) / d as f32;
    let variance = sum(d, |i| (x[i] - mean) * (x[i] - mean)) / d as f32;
    let rstd = 1.0 / (variance + eps).sqrt();
    for i in 0..d {
        y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
    }
    stats.copy_from_slice(&[mean, rstd]);
}

/// As [`forward`], keeping no statistics (inference).
pub fn infer(y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, threads: Threads) {
    let d = gamma.len();
    assert!(
        d > 0 && x.len().is_multiple_of(d) && y.len() == x.len() && beta.len() == d,
        "layernorm: x {} and y {} do not fit rows of {d}",
        x.len(),
        y.len()
    );
    let rows = |y: &mut [f32], x: &[f32]| {
        vectorize(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    forward_row(y, &mut [0.0; 2], x, gamma, beta, eps);
                }
            },
        )
    };
    match threads {
        Threads::One => rows(y, x),
        Threads::All => y.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d)).for_each(|(y, x)| rows(y, x)),
    }
}

/// `dx` is *added to* (it holds the gradient of the residual branch around the norm), as are `dgamma` and `dbeta`.
pub fn backward(
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dy: &[f32],
    x: &[f32],
    stats: &[f32],
    gamma: &[f32],
) {
    let d = gamma.len();
    check(x, stats, d);
    assert!(dx.len() == x.len() && dy.len() == x.len() && dgamma.len() == d && dbeta.len() == d, "layernorm: dx, dy");
    let partials: Vec<Vec<f32>> = dx
        .par_chunks_mut(ROWS * d)
        .zip(dy.par_chunks(ROWS * d))
        .zip(x.par_chunks(ROWS * d))
        .zip(stats.par_chunks(ROWS * 2))
        .map(|(((dx, dy), x), stats)| {
            let mut partial = vec![0.0; 2 * d];
            vectorize(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(d).zip(dy.chunks_exact(d)).zip(x.chunks_exact(d));
                    for (((dx, dy), x), stats) in rows.zip(stats.chunks_exact(2)) {
                        backward_row(dx, &mut partial, dy, x, stats, gamma);
                    }
                },
            );
            partial
        })
        .collect();
    vectorize(
        #[inline(always)]
        || {
            for partial in &partials {
                add(dgamma, &partial[..d]);
                add(dbeta, &partial[d..]);
            }
        },
    );
}

/// With `g = dy·gamma` and `x̂` the normalised row: `dx = rstd·(g − mean(g) − x̂·mean(g·x̂))`.
#[inline(always)]
pub(super) fn backward_row(dx: &mut [f32], partial: &mut [f32], dy: &[f32], x: &[f32], stats: &[f32], gamma: &[f32]) {
    let d = x.len();
    let (mean, rstd) = (stats[0], stats[1]);
    let (dx, dy, gamma) = (&mut dx[..d], &dy[..d], &gamma[..d]);
    let (dgamma, dbeta) = partial.split_at_mut(d);
    let dbeta = &mut dbeta[..d];
    let mean_g = sum(d, |i| dy[i] * gamma[i]) / d as f32;
    let mean_gx = sum(d, |i| dy[i] * gamma[i] * (x[i] - mean)) * rstd / d as f32;
    for i in 0..d {
        let normalised = (x[i] - mean) * rstd;
        dgamma[i] += dy[i] * normalised;
        dbeta[i] += dy[i];
        dx[i] += rstd * (dy[i] * gamma[i] - mean_g - normalised * mean_gx);
    }
}

fn check(x: &[f32], stats: &[f32], d: usize) {
    assert!(
        d > 0 && x.len().is_multiple_of(d) && stats.len() == x.len() / d * 2,
        "layernorm: x {} and stats {} do not fit rows of {d}",
        x.len(),
        stats.len()
    );
}

/// FLOPs of forward and backward over `rows × d`.
pub fn flops(rows: usize, d: usize) -> (f64, f64) {
    let values = (rows * d) as f64;
    (8.0 * values, 13.0 * values)
}

/// Bytes moved by forward (read x, gamma and beta, write y and stats) and backward (read x, dy, dx and stats; write dx)
/// over values of `stored` bytes.
pub fn bytes(rows: usize, d: usize, stored: usize) -> (f64, f64) {
    let values = stored * rows * d;
    ((2 * values + 8 * rows + 8 * d) as f64, (4 * values + 8 * rows) as f64)
}
