//! Batch normalisation over rows (Ioffe & Szegedy 2015), as `torch.nn.BatchNorm1d`: biased variance to normalise,
//! unbiased for the running estimate, momentum 0.1, eps 1e-5.
//!
//! Column sums are accumulated in f64, mean first and squares around it second; both are plain sums over rows
//! (`column_sums`), so that ranks can add theirs before going on.
//!
//! FLOPs per value: forward 8, backward 12. Bytes per value: forward 16 (x three times, y), backward 20.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::simd::vectorize;

/// Added to the variance.
pub const EPS: f32 = 1e-5;
/// Weight of the new batch in the running statistics.
pub const MOMENTUM: f32 = 0.1;

/// Rows per partial sum.
const ROWS: usize = 32;

/// `Σ_rows f(row index, column, value)` per column of `x [rows, cols]`, in f64, for any number of summands per value.
fn column_sums<const S: usize>(
    x: &[f32],
    cols: usize,
    f: impl Fn(usize, usize, f32) -> [f32; S] + Sync,
) -> [Vec<f64>; S] {
    let partials: Vec<[Vec<f64>; S]> = x
        .par_chunks(ROWS * cols)
        .enumerate()
        .map(|(block, rows)| {
            let mut sums: [Vec<f64>; S] = std::array::from_fn(|_| vec![0.0; cols]);
            vectorize(
                #[inline(always)]
                || {
                    for (i, row) in rows.chunks_exact(cols).enumerate() {
                        for (c, &value) in row.iter().enumerate() {
                            let terms = f(block * ROWS + i, c, value);
                            for (sums, term) in sums.iter_mut().zip(terms) {
                                sums[c] += f64::from(term);
                            }
                        }
                    }
                },
            );
            sums
        })
        .collect();
    let mut total: [Vec<f64>; S] = std::array::from_fn(|_| vec![0.0; cols]);
    for partial in &partials {
        for (total, partial) in total.iter_mut().zip(partial) {
            total.iter_mut().zip(partial).for_each(|(t, p)| *t += p);
        }
    }
    total
}

/// Running estimates of one layer, `[cols]` each.
#[derive(Debug)]
pub struct Running<'a> {
    pub mean: &'a mut [f32],
    pub var: &'a mut [f32],
}

/// Training mode. `x`, `y`: `[rows, cols]`; `stats`: `[2, cols]`, mean and 1/√(variance + eps), kept for [`backward`].
/// `running` moves by [`MOMENTUM`] towards this batch. A batch of one row has no unbiased variance: its running
/// variance is left alone.
pub fn forward(y: &mut [f32], stats: &mut [f32], running: Running, x: &[f32], gamma: &[f32], beta: &[f32]) {
    let cols = gamma.len();
    let rows = check(x, stats, cols);
    assert!(y.len() == x.len() && beta.len() == cols && running.mean.len() == cols && running.var.len() == cols);
    let (mean, rstd) = stats.split_at_mut(cols);
    let [sums] = column_sums(x, cols, |_, _, value| [value]);
    mean.iter_mut().zip(&sums).for_each(|(mean, sum)| *mean = (sum / rows as f64) as f32);
    let mean = &*mean;
    let [squares] = column_sums(x, cols, |_, c, value| [(value - mean[c]) * (value - mean[c])]);
    for c in 0..cols {
        rstd[c] = (1.0 / (squares[c] / rows as f64 + f64::from(EPS)).sqrt()) as f32;
        running.mean[c] = (1.0 - MOMENTUM) * running.mean[c] + MOMENTUM * mean[c];
        if rows > 1 {
            let unbiased = (squares[c] / (rows - 1) as f64) as f32;
            running.var[c] = (1.0 - MOMENTUM) * running.var[c] + MOMENTUM * unbiased;
        }
    }
    affine(y, x, mean, rstd, gamma, beta);
}

/// Evaluation mode: normalises by the running estimates.
pub fn infer(y: &mut [f32], x: &[f32], mean: &[f32], var: &[f32], gamma: &[f32], beta: &[f32]) {
    let rstd: Vec<f32> = var.iter().map(|var| 1.0 / (var + EPS).sqrt()).collect();
    affine(y, x, mean, &rstd, gamma, beta);
}

fn affine(y: &mut [f32], x: &[f32], mean: &[f32], rstd: &[f32], gamma: &[f32], beta: &[f32]) {
    let cols = gamma.len();
    y.par_chunks_mut(ROWS * cols).zip(x.par_chunks(ROWS * cols)).for_each(|(y, x)| {
        vectorize(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
                    for c in 0..cols {
                        y[c] = (x[c] - mean[c]) * rstd[c] * gamma[c] + beta[c];
                    }
                }
            },
        );
    });
}

/// `dx` (overwritten) through the batch statistics; `dgamma` and `dbeta` are added to.
/// `dx = gamma·rstd·(dy − mean(dy) − x̂·mean(dy·x̂))`, means over rows.
pub fn backward(
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    dy: &[f32],
    x: &[f32],
    stats: &[f32],
    gamma: &[f32],
) {
    let cols = gamma.len();
    let rows = check(x, stats, cols);
    assert!(dx.len() == x.len() && dy.len() == x.len() && dgamma.len() == cols && dbeta.len() == cols);
    let (mean, rstd) = stats.split_at(cols);
    let [sum_dy, sum_dyx] = column_sums(dy, cols, |row, c, dy| {
        let normalised = (x[row * cols + c] - mean[c]) * rstd[c];
        [dy, dy * normalised]
    });
    let mut scale = vec![0.0f32; cols];
    let mut mean_dy = vec![0.0f32; cols];
    let mut mean_dyx = vec![0.0f32; cols];
    for c in 0..cols {
        dbeta[c] += sum_dy[c] as f32;
        dgamma[c] += sum_dyx[c] as f32;
        scale[c] = gamma[c] * rstd[c];
        mean_dy[c] = (sum_dy[c] / rows as f64) as f32;
        mean_dyx[c] = (sum_dyx[c] / rows as f64) as f32;
    }
    dx.par_chunks_mut(ROWS * cols).zip(dy.par_chunks(ROWS * cols)).zip(x.par_chunks(ROWS * cols)).for_each(
        |((dx, dy), x)| {
            vectorize(
                #[inline(always)]
                || {
                    for ((dx, dy), x) in dx.chunks_exact_mut(cols).zip(dy.chunks_exact(cols)).zip(x.chunks_exact(cols))
                    {
                        for c in 0..cols {
                            let normalised = (x[c] - mean[c]) * rstd[c];
                            dx[c] = scale[c] * (dy[c] - mean_dy[c] - normalised * mean_dyx[c]);
                        }
                    }
                },
            );
        },
    );
}

fn check(x: &[f32], stats: &[f32], cols: usize) -> usize {
    assert!(
        cols > 0 && !x.is_empty() && x.len().is_multiple_of(cols) && stats.len() == 2 * cols,
        "batchnorm: x {} and stats {} do not fit {cols} columns",
        x.len(),
        stats.len()
    );
    x.len() / cols
}

/// FLOPs of forward and backward over `rows × cols`.
pub fn flops(rows: usize, cols: usize) -> (f64, f64) {
    (8.0 * (rows * cols) as f64, 12.0 * (rows * cols) as f64)
}

/// Bytes moved by forward and backward over `rows × cols`.
pub fn bytes(rows: usize, cols: usize) -> (f64, f64) {
    (16.0 * (rows * cols) as f64, 20.0 * (rows * cols) as f64)
}
