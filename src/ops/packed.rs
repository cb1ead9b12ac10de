//! Linear layers of inference: weights packed for the processor's kernels when they are loaded, bias and residual
//! folded into the start of the sums.
//!
//! `y = start + x·w`. The reduction of an output does not depend on how many rows are multiplied at once
//! ([`gemm`]), so an image has the same bits in every batch. FLOPs: 2·rows·K·N.

use rayon::prelude::*;

use super::gemm::{self, Panels, Threads};
use super::reduce::add;
use super::simd::vectorize;

/// Rows per task when all threads share a product; fewer rows are shared inside the matrix product.
const ROWS: usize = 64;

/// Weights `[K, N]`, and the bias `[N]` if there is one.
#[derive(Clone, Debug)]
pub struct Packed {
    pub k: usize,
    pub n: usize,
    pub w: Panels,
    pub bias: Option<Vec<f32>>,
}

/// What the sums of a product start from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// The layer's bias (0 if it has none).
    Bias,
    /// This row `[N]` in place of the bias.
    Row(&'a [f32]),
    /// These values `[rows, N]` plus the bias.
    Residual(&'a [f32]),
    /// What `y` holds plus the bias.
    Keep,
}

impl Packed {
    /// From PyTorch's order `[N, K]` (out, in). 1×1 convolutions have the same order.
    pub fn from_out_in(w: &[f32], bias: Option<Vec<f32>>, n: usize, k: usize) -> Self {
        assert!(
            w.len() == n * k && bias.as_ref().is_none_or(|b| b.len() == n),
            "packed: {} values for {n} × {k}",
            w.len()
        );
        Self { k, n, w: Panels::new(&transposed(w, n, k), k, n), bias }
    }

    /// From a convolution `[N, C, height, width]` of `taps` = height·width: K = (ky, kx, c).
    pub fn from_conv(w: &[f32], bias: Option<Vec<f32>>, n: usize, c: usize, taps: usize) -> Self {
        assert!(
            w.len() == n * c * taps && bias.as_ref().is_none_or(|b| b.len() == n),
            "packed: {} values for {n} × {c} × {taps}",
            w.len()
        );
        let by_channel = transposed(w, n, c * taps);
        let mut out = vec![0.0; w.len()];
        out.par_chunks_mut(n).enumerate().for_each(|(row, out)| {
            let (tap, channel) = (row / c, row % c);
            let from = (channel * taps + tap) * n;
            out.copy_from_slice(&by_channel[from..from + n]);
        });
        Self { k: taps * c, n, w: Panels::new(&out, taps * c, n), bias }
    }

    /// Several layers of the same input as one, their outputs side by side.
    pub fn side_by_side(parts: &[&Self]) -> Self {
        let (k, n) = (parts[0].k, parts.iter().map(|p| p.n).sum());
        assert!(parts.iter().all(|p| p.k == k), "packed: layers of different inputs");
        let unpacked: Vec<(Vec<f32>, usize)> = parts.iter().map(|part| (part.w.unpacked(), part.n)).collect();
        let mut w = Vec::with_capacity(k * n);
        for row in 0..k {
            for (values, n) in &unpacked {
                w.extend_from_slice(&values[row * n..(row + 1) * n]);
            }
        }
        let bias = parts.iter().any(|p| p.bias.is_some()).then(|| {
            let zeros = |p: &&Self| p.bias.clone().unwrap_or_else(|| vec![0.0; p.n]);
            parts.iter().flat_map(zeros).collect()
        });
        Self { k, n, w: Panels::new(&w, k, n), bias }
    }

    /// Number of values held.
    pub fn values(&self) -> usize {
        self.k * self.n + self.bias.as_ref().map_or(0, Vec::len)
    }

    /// FLOPs for this many rows.
    pub fn flops(&self, rows: usize) -> f64 {
        2.0 * rows as f64 * self.k as f64 * self.n as f64
    }

    /// Bytes for this many rows, each operand once.
    pub fn bytes(&self, rows: usize) -> f64 {
        4.0 * (rows * (self.k + self.n) + self.values()) as f64
    }
}

impl Start<'_> {
    /// Writes what the sums start from into the rows `row0..` of the result, of `n` values; whether the product must
    /// add to it.
    pub(super) fn write(self, y: &mut [f32], bias: Option<&[f32]>, n: usize, row0: usize) -> bool {
        let bias = match self {
            Start::Row(row) => Some(row),
            _ => bias,
        };
        match (self, bias) {
            (Start::Keep, None) => {}
            (Start::Keep, Some(bias)) => vectorize(
                #[inline(always)]
                || y.chunks_exact_mut(n).for_each(|row| add(row, bias)),
            ),
            (Start::Residual(residual), None) => y.copy_from_slice(&residual[row0 * n..row0 * n + y.len()]),
            (Start::Residual(residual), Some(bias)) => vectorize(
                #[inline(always)]
                || {
                    let residual = residual[row0 * n..row0 * n + y.len()].chunks_exact(n);
                    for (y, residual) in y.chunks_exact_mut(n).zip(residual) {
                        for ((y, &r), &b) in y.iter_mut().zip(residual).zip(bias) {
                            *y = r + b;
                        }
                    }
                },
            ),
            (_, Some(bias)) => y.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias)),
            (_, None) => return false,
        }
        true
    }
}

/// `y [rows, N] = start + x [rows, K]·w`.
pub fn linear(y: &mut [f32], x: &[f32], w: &Packed, start: Start<'_>, threads: Threads) {
    let (k, n) = (w.k, w.n);
    let rows = x.len() / k;
    assert!(x.len() == rows * k && y.len() == rows * n, "linear: x {} y {} do not fit {k} → {n}", x.len(), y.len());
    if threads == Threads::One || rows < 2 * ROWS {
        let accumulate = start.write(y, w.bias.as_deref(), n, 0);
        return gemm::packed(y, x, w.w.all(), accumulate, threads);
    }
    y.par_chunks_mut(ROWS * n).zip(x.par_chunks(ROWS * k)).enumerate().for_each(|(i, (y, x))| {
        let accumulate = start.write(y, w.bias.as_deref(), n, i * ROWS);
        gemm::packed(y, x, w.w.all(), accumulate, Threads::One);
    });
}

/// `[n, k]` → `[k, n]`, in blocks that stay in the first cache.
pub(super) fn transposed(w: &[f32], n: usize, k: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let mut out = vec![0.0; w.len()];
    out.par_chunks_mut(BLOCK * n).enumerate().for_each(|(i, out)| {
        let first = i * BLOCK;
        for column in (0..n).step_by(BLOCK) {
            for (r, row) in out.chunks_exact_mut(n).enumerate() {
                for (c, slot) in row.iter_mut().enumerate().take(column + BLOCK).skip(column) {
                    *slot = w[c * k + first + r];
                }
            }
        }
    });
    out
}
