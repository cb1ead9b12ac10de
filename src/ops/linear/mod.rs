//! Fully connected layer for training: `y = x·Wᵀ + b` with `W [out, in]` as PyTorch stores it, and its three gradients.
//!
//! Rows are cut into blocks; each block is multiplied on one thread and finished (bias, GELU, its derivative) while it
//! is in that core's cache. A product with too few rows for that is shared by all threads. How rows are cut changes no
//! bit: an output is the same chain of additions in every block ([`super::gemm`]).
//!
//! FLOPs: 2·rows·in·out for the forward and for each of the input and weight gradients.

use rayon::prelude::*;

use super::gelu;
use super::gemm::{Mat, Target, Threads, nn, raw, tn};
use super::reduce::add_column_sums;
use super::simd::vectorize;

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

/// Most and fewest rows per block: fewer blocks pack the weights less often, smaller ones stay in the cache.
const MOST_ROWS: usize = 1024;
const FEWEST_ROWS: usize = 256;
/// Values per task of an elementwise pass.
const VALUES: usize = 1 << 14;

/// Rows per block, an equal share of blocks for every thread; `None` when there are too few.
fn block_rows(rows: usize) -> Option<usize> {
    let threads = rayon::current_num_threads();
    let each = rows.div_ceil(threads * rows.div_ceil(threads * MOST_ROWS));
    (each >= FEWEST_ROWS).then_some(each)
}

/// Sizes of a layer: `rows` of `inputs` values become rows of `outputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Shape {
    /// FLOPs of one of the three products.
    pub fn flops(self) -> f64 {
        2.0 * self.rows as f64 * self.inputs as f64 * self.outputs as f64
    }

    /// Bytes one product must move at least: each operand of values of `stored` bytes once.
    pub fn bytes(self, stored: usize) -> f64 {
        (stored * (self.rows * self.inputs + self.inputs * self.outputs + self.rows * self.outputs)) as f64
    }

    fn check(self, x: &[f32], y: &[f32], w: &[f32]) {
        assert!(
            x.len() == self.rows * self.inputs
                && y.len() == self.rows * self.outputs
                && w.len() == self.inputs * self.outputs,
            "linear: x {} y {} w {} do not fit {self:?}",
            x.len(),
            y.len(),
            w.len()
        );
    }
}

/// `y = x·Wᵀ + b`; no bias where `b` is `None`.
pub fn forward(y: &mut [f32], x: &[f32], w: &[f32], b: Option<&[f32]>, shape: Shape) {
    product(y, x, w, b, None, shape);
}

/// `y = residual + x·Wᵀ + b`; row i of the residual begins at i·stride of `(residual, stride)`.
pub fn forward_residual(
    y: &mut [f32],
    residual: (&[f32], usize),
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    shape: Shape,
) {
    let enough = shape.rows.saturating_sub(1) * residual.1 + shape.outputs;
    assert!(residual.1 >= shape.outputs && residual.0.len() >= enough, "linear: residual");
    product(y, x, w, b, Some(residual), shape);
}

/// `h = x·Wᵀ + b` and `a = gelu(h)`; `h` is kept for [`backward_input_gelu`].
pub fn forward_gelu(a: &mut [f32], h: &mut [f32], x: &[f32], w: &[f32], b: Option<&[f32]>, shape: Shape) {
    shape.check(x, h, w);
    assert_eq!(a.len(), h.len(), "linear: a and h");
    let Some(rows) = block_rows(shape.rows) else {
        block(h, x, w, b, None, shape, Threads::All);
        a.par_chunks_mut(VALUES).zip(h.par_chunks(VALUES)).for_each(|(a, h)| {
            vectorize(
                #[inline(always)]
                || gelu::forward(a, h),
            )
        });
        return;
    };
    let blocks = a.par_chunks_mut(rows * shape.outputs).zip(h.par_chunks_mut(rows * shape.outputs));
    blocks.zip(x.par_chunks(rows * shape.inputs)).for_each(|((a, h), x)| {
        block(h, x, w, b, None, shape, Threads::One);
        vectorize(
            #[inline(always)]
            || gelu::forward(a, h),
        );
    });
}

/// `dx = dy·W`.
pub fn backward_input(dx: &mut [f32], dy: &[f32], w: &[f32], shape: Shape) {
    shape.check(dx, dy, w);
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let Some(rows) = block_rows(shape.rows) else {
        return nn(dx, dy, w, (shape.rows, inputs, outputs), false, Threads::All);
    };
    dx.par_chunks_mut(rows * inputs).zip(dy.par_chunks(rows * outputs)).for_each(|(dx, dy)| {
        nn(dx, dy, w, (dy.len() / outputs, inputs, outputs), false, Threads::One);
    });
}

/// `dh = (dy·W)·gelu′(h)`: the gradient before the GELU whose output was this layer's input.
pub fn backward_input_gelu(dh: &mut [f32], dy: &[f32], w: &[f32], h: &[f32], shape: Shape) {
    shape.check(dh, dy, w);
    assert_eq!(dh.len(), h.len(), "linear: dh and h");
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let Some(rows) = block_rows(shape.rows) else {
        nn(dh, dy, w, (shape.rows, inputs, outputs), false, Threads::All);
        let pieces = dh.par_chunks_mut(VALUES).zip(h.par_chunks(VALUES));
        return pieces.for_each(|(dh, h)| {
            vectorize(
                #[inline(always)]
                || gelu::backward_in_place(dh, h),
            )
        });
    };
    let blocks = dh.par_chunks_mut(rows * inputs).zip(dy.par_chunks(rows * outputs)).zip(h.par_chunks(rows * inputs));
    blocks.for_each(|((dh, dy), h)| {
        nn(dh, dy, w, (dy.len() / outputs, inputs, outputs), false, Threads::One);
        vectorize(
            #[inline(always)]
            || gelu::backward_in_place(dh, h),
        );
    });
}

/// `dw += dyᵀ·x` and, where there is a bias, `db += Σ_rows dy`.
pub fn backward_weight(dw: &mut [f32], db: Option<&mut [f32]>, dy: &[f32], x: &[f32], shape: Shape) {
    shape.check(x, dy, dw);
    assert!(db.as_ref().is_none_or(|db| db.len() == shape.outputs), "linear: db");
    tn(dw, dy, x, (shape.outputs, shape.inputs, shape.rows), true, Threads::All);
    if let Some(db) = db {
        add_column_sums(db, dy);
    }
}

fn product(y: &mut [f32], x: &[f32], w: &[f32], b: Option<&[f32]>, residual: Option<(&[f32], usize)>, shape: Shape) {
    shape.check(x, y, w);
    let Some(rows) = block_rows(shape.rows) else {
        return block(y, x, w, b, residual, shape, Threads::All);
    };
    let blocks = y.par_chunks_mut(rows * shape.outputs).zip(x.par_chunks(rows * shape.inputs)).enumerate();
    blocks.for_each(|(i, (y, x))| {
        let residual = residual.map(|(r, stride)| (&r[i * rows * stride..], stride));
        block(y, x, w, b, residual, shape, Threads::One);
    });
}

/// Some rows of `y = residual + b + x·Wᵀ`: the sums start from the residual and the bias.
fn block(
    y: &mut [f32],
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    residual: Option<(&[f32], usize)>,
    shape: Shape,
    threads: Threads,
) {
    let Shape { inputs, outputs, .. } = shape;
    assert!(b.is_none_or(|b| b.len() == outputs), "linear: bias");
    if let (Some((residual, stride)), Some(b)) = (residual, b) {
        vectorize(
            #[inline(always)]
            || {
                for (y, residual) in y.chunks_exact_mut(outputs).zip(residual.chunks(stride)) {
                    y.iter_mut().zip(residual).zip(b).for_each(|((y, &r), &b)| *y = r + b);
                }
            },
        );
    }
    let rows = y.len() / outputs;
    let target = Target::of(y, outputs, true);
    let from = match (residual, b) {
        (Some(_), Some(_)) => target.from,
        (Some((residual, stride)), None) => Some((residual.as_ptr(), stride)),
        (None, Some(b)) => Some((b.as_ptr(), 0)),
        (None, None) => None,
    };
    // SAFETY: `Shape::check` of the callers proved that `x` and `w` hold the whole matrices, the assertions that the
    // bias and the residual do; `y` is exclusively borrowed.
    unsafe {
        let target = Target { from, ..target };
        raw(target, Mat::rows(x, inputs), Mat::rows(w, inputs).t(), (rows, outputs, inputs), threads)
    }
}
