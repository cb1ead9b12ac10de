//! Linear layers of inference: weights packed for the processor's kernels when they are loaded, bias and residual
//! folded into the start of the sums.
//!
//! `y = start + x·w`. The reduction of an output does not depend on how many rows are multiplied at once
//! ([`gemm`]), so an image has the same bits in every batch. FLOPs: 2·rows·K·N.

use rayon::prelude::*;

use super::gemm::{self, Begin, Operands, Pair, Panels, Scalar, Threads, first_of};
use super::reduce::add;
use super::simd::vectorize;

/// Rows per task where each thread has some; fewer rows are shared inside the matrix product.
const ROWS: usize = 64;

/// Rows that are multiplied at once where they are first rounded.
const ROUNDED_ROWS: usize = 256;

/// Weights `[K, N]`, and the bias `[N]` if there is one.
#[derive(Clone, Debug)]
pub struct Packed {
    pub k: usize,
    pub n: usize,
    pub(super) w: Form,
    pub bias: Option<Vec<f32>>,
}

/// A matrix by its operands.
#[derive(Clone, Debug)]
pub(super) enum Form {
    F32(Panels),
    /// Pairs of rows.
    Bf16(Panels<Pair>),
}

impl Form {
    /// From rows `[K, N]`.
    fn new(w: &[f32], k: usize, n: usize, operands: Operands) -> Self {
        match operands {
            Operands::F32 => Self::F32(Panels::new(w, k, n)),
            Operands::Bf16 => Self::Bf16(Panels::new(&Pair::of_rows(w, n), k.div_ceil(2), n)),
        }
    }
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
    pub fn from_out_in(w: &[f32], bias: Option<Vec<f32>>, n: usize, k: usize, operands: Operands) -> Self {
        assert!(
            w.len() == n * k && bias.as_ref().is_none_or(|b| b.len() == n),
            "packed: {} values for {n} × {k}",
            w.len()
        );
        Self { k, n, w: Form::new(&transposed(w, n, k), k, n, operands), bias }
    }

    /// From a convolution `[N, C, height, width]` of `taps` = height·width: K = (ky, kx, c).
    pub fn from_conv(
        w: &[f32],
        bias: Option<Vec<f32>>,
        (c, n): (usize, usize),
        taps: usize,
        operands: Operands,
    ) -> Self {
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
        Self { k: taps * c, n, w: Form::new(&out, taps * c, n, operands), bias }
    }

    /// Several layers of the same input as one, their outputs side by side.
    ///
    /// # Panics
    /// If their inputs or operands differ.
    pub fn side_by_side(parts: &[&Self]) -> Self {
        let (k, n) = (parts[0].k, parts.iter().map(|p| p.n).sum());
        assert!(parts.iter().all(|p| p.k == k), "packed: layers of different inputs");
        let w = match parts[0].w {
            Form::F32(_) => Form::F32(joined(parts.iter().map(|part| part.f32()).collect())),
            Form::Bf16(_) => Form::Bf16(joined(parts.iter().map(|part| part.bf16()).collect())),
        };
        let bias = parts.iter().any(|p| p.bias.is_some()).then(|| {
            let zeros = |p: &&Self| p.bias.clone().unwrap_or_else(|| vec![0.0; p.n]);
            parts.iter().flat_map(zeros).collect()
        });
        Self { k, n, w, bias }
    }

    /// The matrix of a layer in f32.
    ///
    /// # Panics
    /// If it is one in bf16.
    pub fn f32(&self) -> &Panels {
        match &self.w {
            Form::F32(panels) => panels,
            Form::Bf16(_) => panic!("packed: a layer in bf16 where there are only those in f32"),
        }
    }

    /// The matrix of a layer in bf16, which it must be.
    fn bf16(&self) -> &Panels<Pair> {
        match &self.w {
            Form::F32(_) => panic!("packed: a layer in f32 where there are only those in bf16"),
            Form::Bf16(pairs) => pairs,
        }
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

/// What the sums of a layer of this many outputs start from.
#[derive(Clone, Copy)]
pub(super) struct First<'a> {
    pub bias: Option<&'a [f32]>,
    pub start: Start<'a>,
    pub outputs: usize,
}

impl<'a> First<'a> {
    /// What the rows `row0..` of the result begin from.
    pub(super) fn begin(self, y: &mut [f32], row0: usize) -> Begin<'a> {
        self.start.begin(y, self.bias, self.outputs, row0)
    }
}

impl<'a> Start<'a> {
    /// What the rows `row0..` of the result, of `n` values, begin from: where that is one thing it is read where it
    /// lies, else it is written there first.
    pub(super) fn begin(self, y: &mut [f32], bias: Option<&'a [f32]>, n: usize, row0: usize) -> Begin<'a> {
        match (self, bias) {
            (Start::Row(row), _) | (Start::Bias, Some(row)) => return Begin::Row(row),
            (Start::Bias, None) => return Begin::Zero,
            (Start::Residual(residual), None) => return Begin::Rows(&residual[row0 * n..row0 * n + y.len()]),
            (Start::Keep, None) => {}
            (Start::Keep, Some(bias)) => vectorize(
                #[inline(always)]
                || y.chunks_exact_mut(n).for_each(|row| add(row, bias)),
            ),
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
        }
        Begin::Result
    }
}

/// `y [rows, N] = start + x [rows, K]·w`.
pub fn linear(y: &mut [f32], x: &[f32], w: &Packed, start: Start<'_>, threads: Threads) {
    let (k, n) = (w.k, w.n);
    let rows = x.len() / k;
    assert!(x.len() == rows * k && y.len() == rows * n, "linear: x {} y {} do not fit {k} → {n}", x.len(), y.len());
    if threads == Threads::One || rows < ROWS * rayon::current_num_threads() {
        return some(y, x, w, (start, 0), threads);
    }
    y.par_chunks_mut(ROWS * n).zip(x.par_chunks(ROWS * k)).enumerate().for_each(|(i, (y, x))| {
        some(y, x, w, (start, i * ROWS), Threads::One);
    });
}

/// The rows from `row0` on.
fn some(y: &mut [f32], x: &[f32], w: &Packed, (start, row0): (Start<'_>, usize), threads: Threads) {
    let (k, n) = (w.k, w.n);
    let bias = w.bias.as_deref();
    match &w.w {
        Form::F32(panels) => {
            let begin = start.begin(y, bias, n, row0);
            gemm::packed(y, x, panels.all(), begin, threads);
        }
        Form::Bf16(panels) => Pair::with_operands(|[pairs, _]| {
            for (i, (y, x)) in y.chunks_mut(ROUNDED_ROWS * n).zip(x.chunks(ROUNDED_ROWS * k)).enumerate() {
                let begin = start.begin(y, bias, n, row0 + i * ROUNDED_ROWS);
                let pairs = first_of(pairs, x.len() / k * panels.k());
                Pair::round_rows(pairs, x, k);
                gemm::packed(y, pairs, panels.all(), begin, threads);
            }
        }),
    }
}

/// Matrices of as many rows, side by side.
fn joined<T: Scalar>(parts: Vec<&Panels<T>>) -> Panels<T> {
    let (k, n) = (parts[0].k(), parts.iter().map(|part| part.n()).sum());
    let unpacked: Vec<Vec<T>> = parts.iter().map(|part| part.unpacked()).collect();
    let mut w = Vec::with_capacity(k * n);
    for row in 0..k {
        for (values, part) in unpacked.iter().zip(&parts) {
            w.extend_from_slice(&values[row * part.n()..(row + 1) * part.n()]);
        }
    }
    Panels::new(&w, k, n)
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
