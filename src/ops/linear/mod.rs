//! Fully connected layer for training: `y = x·Wᵀ + b` with `W [out, in]` as PyTorch stores it, and its three gradients.
//! Weights say in what their products multiply ([`Weight`]); sums and all else are f32.
//!
//! Rows are cut into blocks; each block is multiplied on one thread and finished (bias, GELU, its derivative) while it
//! is in that core's cache. A product with too few rows for that is shared by all threads. How rows are cut changes no
//! bit: an output is the same chain of additions in every block ([`super::gemm`]).
//!
//! FLOPs: 2·rows·in·out for the forward and for each of the input and weight gradients.

use rayon::prelude::*;

use super::gelu;
use super::gemm::{self, Mat, Operands, Target, Threads, raw, rounded};
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

/// A weight `[out, in]`, and what it and what it is multiplied with are rounded to.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    pub values: &'a [f32],
    pub operands: Operands,
}

impl<'a, V: AsRef<[f32]> + ?Sized> From<&'a V> for Weight<'a> {
    /// In f32.
    fn from(values: &'a V) -> Self {
        Self { values: values.as_ref(), operands: Operands::F32 }
    }
}

/// Rows per block, an equal share of blocks for every thread; `None` when there are too few, and in bf16, where all
/// threads round the weights first.
fn block_rows(rows: usize, operands: Operands) -> Option<usize> {
    if operands == Operands::Bf16 {
        return None;
    }
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

    fn check<'a>(self, x: &[f32], y: &[f32], w: impl Into<Weight<'a>>) -> Weight<'a> {
        let w = w.into();
        assert!(
            x.len() == self.rows * self.inputs
                && y.len() == self.rows * self.outputs
                && w.values.len() == self.inputs * self.outputs,
            "linear: x {} y {} w {} do not fit {self:?}",
            x.len(),
            y.len(),
            w.values.len()
        );
        w
    }
}

/// `y = x·Wᵀ + b`; no bias where `b` is `None`.
pub fn forward<'a>(y: &mut [f32], x: &[f32], w: impl Into<Weight<'a>>, b: Option<&[f32]>, shape: Shape) {
    product(y, x, w.into(), b, None, shape);
}

/// `y = residual + x·Wᵀ + b`; row i of the residual begins at i·stride of `(residual, stride)`.
pub fn forward_residual<'a>(
    y: &mut [f32],
    residual: (&[f32], usize),
    x: &[f32],
    w: impl Into<Weight<'a>>,
    b: Option<&[f32]>,
    shape: Shape,
) {
    let enough = shape.rows.saturating_sub(1) * residual.1 + shape.outputs;
    assert!(residual.1 >= shape.outputs && residual.0.len() >= enough, "linear: residual");
    product(y, x, w.into(), b, Some(residual), shape);
}

/// `h = x·Wᵀ + b` and `a = gelu(h)`; `h` is kept for [`backward_input_gelu`].
pub fn forward_gelu<'a>(
    a: &mut [f32],
    h: &mut [f32],
    x: &[f32],
    w: impl Into<Weight<'a>>,
    b: Option<&[f32]>,
    shape: Shape,
) {
    let w = shape.check(x, h, w);
    assert_eq!(a.len(), h.len(), "linear: a and h");
    let Some(rows) = block_rows(shape.rows, w.operands) else {
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
pub fn backward_input<'a>(dx: &mut [f32], dy: &[f32], w: impl Into<Weight<'a>>, shape: Shape) {
    let w = shape.check(dx, dy, w);
    let Some(rows) = block_rows(shape.rows, w.operands) else {
        return input_block(dx, dy, w, shape, Threads::All);
    };
    let blocks = dx.par_chunks_mut(rows * shape.inputs).zip(dy.par_chunks(rows * shape.outputs));
    blocks.for_each(|(dx, dy)| input_block(dx, dy, w, shape, Threads::One));
}

/// `dh = (dy·W)·gelu′(h)`: the gradient before the GELU whose output was this layer's input.
pub fn backward_input_gelu<'a>(dh: &mut [f32], dy: &[f32], w: impl Into<Weight<'a>>, h: &[f32], shape: Shape) {
    let w = shape.check(dh, dy, w);
    assert_eq!(dh.len(), h.len(), "linear: dh and h");
    let Some(rows) = block_rows(shape.rows, w.operands) else {
        input_block(dh, dy, w, shape, Threads::All);
        let pieces = dh.par_chunks_mut(VALUES).zip(h.par_chunks(VALUES));
        return pieces.for_each(|(dh, h)| {
            vectorize(
                #[inline(always)]
                || gelu::backward_in_place(dh, h),
            )
        });
    };
    let (inputs, outputs) = (rows * shape.inputs, rows * shape.outputs);
    let blocks = dh.par_chunks_mut(inputs).zip(dy.par_chunks(outputs)).zip(h.par_chunks(inputs));
    blocks.for_each(|((dh, dy), h)| {
        input_block(dh, dy, w, shape, Threads::One);
        vectorize(
            #[inline(always)]
            || gelu::backward_in_place(dh, h),
        );
    });
}

/// `dw += dyᵀ·x` and, where there is a bias, `db += Σ_rows dy`; the product of `operands`.
pub fn backward_weight(
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    dy: &[f32],
    x: &[f32],
    operands: Operands,
    shape: Shape,
) {
    shape.check(x, dy, &*dw);
    assert!(db.as_ref().is_none_or(|db| db.len() == shape.outputs), "linear: db");
    let sizes = (shape.outputs, shape.inputs, shape.rows);
    match operands {
        Operands::F32 => gemm::tn(dw, dy, x, sizes, true, Threads::All),
        Operands::Bf16 => rounded::tn(dw, dy, x, sizes),
    }
    if let Some(db) = db {
        add_column_sums(db, dy);
    }
}

fn product(
    y: &mut [f32],
    x: &[f32],
    w: Weight<'_>,
    b: Option<&[f32]>,
    residual: Option<(&[f32], usize)>,
    shape: Shape,
) {
    shape.check(x, y, w);
    let Some(rows) = block_rows(shape.rows, w.operands) else {
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
    w: Weight<'_>,
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
    let sizes = (y.len() / outputs, outputs, inputs);
    let target = Target::of(y, outputs, true);
    let from = match (residual, b) {
        (Some(_), Some(_)) => target.from,
        (Some((residual, stride)), None) => Some((residual.as_ptr(), stride)),
        (None, Some(b)) => Some((b.as_ptr(), 0)),
        (None, None) => None,
    };
    let target = Target { from, ..target };
    // SAFETY: `Shape::check` of the callers proved that `x` and `w` hold the whole matrices, the assertions that the
    // bias and the residual do; `y` is exclusively borrowed.
    unsafe {
        match w.operands {
            Operands::F32 => raw(target, Mat::rows(x, inputs), Mat::rows(w.values, inputs).t(), sizes, threads),
            Operands::Bf16 => rounded::nt(target, x, w.values, sizes),
        }
    }
}

/// Some rows of `dx = dy·W`.
fn input_block(dx: &mut [f32], dy: &[f32], w: Weight<'_>, shape: Shape, threads: Threads) {
    let Shape { inputs, outputs, .. } = shape;
    let sizes = (dx.len() / inputs, inputs, outputs);
    match w.operands {
        Operands::F32 => gemm::nn(dx, dy, w.values, sizes, false, threads),
        // SAFETY: `dx` is exclusively borrowed, and as large as the sizes say.
        Operands::Bf16 => unsafe { rounded::nn(Target::of(dx, inputs, false), dy, w.values, sizes) },
    }
}
