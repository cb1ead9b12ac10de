//! Multi-head self-attention for training: `O = softmax(Q·Kᵀ/√d)·V` per image and head (Vaswani et al. 2017).
//!
//! `qkv` is `[N, T, 3, G, d]`, as timm's one linear layer leaves it; the products read it through strides. Only the row
//! maximum and sum (as one log-sum-exp per query) are kept; [`backward`] recomputes the probabilities (Dao et al. 2022,
//! arXiv 2205.14135, §3.1) of one image and head at a time in a scratch of its thread. The first `queries` tokens ask;
//! the rest only answer (the last block of a ViT needs its class token alone).
//!
//! FLOPs: see [`Shape::flops`]. Bytes: qkv and O once each way; the probabilities stay in cache.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::gemm::{Mat, Target, Threads, raw};
use super::math::exp_nonpositive;
use super::qk_norm;
use super::simd::{LANES, max, sum, total, vectorize};

/// Sizes: `n` images, `tokens` T, the first `queries` of them asking, `heads` G, head dimension d.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub tokens: usize,
    pub queries: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// Whether token t sees tokens 0..=t only.
    pub causal: bool,
}

impl Shape {
    fn width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Queries, keys and values of all tokens.
    pub fn heads(self) -> qk_norm::Shape {
        qk_norm::Shape { tokens: self.n * self.tokens, heads: self.heads, head_dim: self.head_dim }
    }

    /// Values of `qkv`.
    pub fn qkv_len(self) -> usize {
        self.n * self.tokens * 3 * self.width()
    }

    /// Values of the output `[N, queries, G, d]`.
    pub fn out_len(self) -> usize {
        self.n * self.queries * self.width()
    }

    /// Values of the log-sum-exp `[N, G, queries]`.
    pub fn lse_len(self) -> usize {
        self.n * self.heads * self.queries
    }

    /// FLOPs of the matrix products of forward (2) and backward (5).
    pub fn flops(self) -> (f64, f64) {
        let product = 2.0 * (self.n * self.heads) as f64 * (self.queries * self.tokens * self.head_dim) as f64;
        (2.0 * product, 5.0 * product)
    }

    /// Bytes moved by forward and backward over values of `stored` bytes and f32 log-sum-exps.
    pub fn bytes(self, stored: usize) -> (f64, f64) {
        let (values, lse) = (stored * (self.qkv_len() + self.out_len()), 4 * self.lse_len());
        ((values + lse) as f64, (2 * values + lse) as f64)
    }

    fn check(self, qkv: usize, out: usize, lse: usize) {
        assert!(
            qkv == self.qkv_len()
                && out == self.out_len()
                && lse == self.lse_len()
                && (1..=self.tokens).contains(&self.queries),
            "self-attention: qkv {qkv}, out {out}, lse {lse} do not fit {self:?}"
        );
    }

    /// Offsets of (image, head) in qkv (of its q; k and v follow at one and two widths) and in the output.
    fn offsets(self, pair: usize) -> (usize, usize) {
        let (image, head) = (pair / self.heads, pair % self.heads);
        let within = head * self.head_dim;
        (image * self.tokens * 3 * self.width() + within, image * self.queries * self.width() + within)
    }
}

/// A buffer that tasks write in disjoint strided pieces.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);
// SAFETY: each task touches only the columns of its own (image, head); see the uses.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// `y` must stay borrowed while tasks write to it.
    pub(super) fn new(y: &mut [f32]) -> Self {
        Self(y.as_mut_ptr())
    }

    /// A method, so that closures capture the whole wrapper and not its pointer field.
    ///
    /// # Safety
    /// `offset` must lie inside the buffer.
    pub(super) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// `out [N, queries, G, d]` and `lse [N, G, queries]` from `qkv`.
pub fn forward(out: &mut [f32], lse: &mut [f32], qkv: &[f32], shape: Shape) {
    shape.check(qkv.len(), out.len(), lse.len());
    let Shape { tokens, queries, head_dim, .. } = shape;
    let width = shape.width();
    let out = Shared::new(out);
    lse.par_chunks_mut(queries).enumerate().for_each_init(
        || vec![0.0f32; queries * tokens],
        |p, (pair, lse)| {
            let (from, to) = shape.offsets(pair);
            let v = strided(&qkv[from + 2 * width..], 3 * width);
            attend(p, lse, &qkv[from..], shape);
            // SAFETY: columns `to..to + head_dim` of rows `width` apart of this image belong to this task alone.
            unsafe {
                let y = out.at(to);
                raw(Target::strided(y, width), Mat::rows(p, tokens), v, (queries, head_dim, tokens), Threads::One)
            }
        },
    );
}

/// `softmax(Q·Kᵀ/√d) [N, G, queries, T]` of `qkv`, which [`forward`] keeps nothing of: to be looked at.
pub fn probabilities(qkv: &[f32], shape: Shape) -> Vec<f32> {
    shape.check(qkv.len(), shape.out_len(), shape.lse_len());
    let mut all = vec![0.0; shape.lse_len() * shape.tokens];
    all.par_chunks_mut(shape.queries * shape.tokens).enumerate().for_each_init(
        || vec![0.0; shape.queries],
        |lse, (pair, p)| attend(p, lse, &qkv[shape.offsets(pair).0..], shape),
    );
    all
}

/// `dqkv` (overwritten) from the gradient `dout` of the output.
pub fn backward(dqkv: &mut [f32], dout: &[f32], qkv: &[f32], out: &[f32], lse: &[f32], shape: Shape) {
    shape.check(qkv.len(), out.len(), lse.len());
    assert!(dqkv.len() == qkv.len() && dout.len() == out.len(), "self-attention: dqkv, dout");
    let Shape { tokens, queries, head_dim, .. } = shape;
    let width = shape.width();
    let scale = (head_dim as f32).powf(-0.5);
    let target = Shared::new(dqkv);
    lse.par_chunks(queries).enumerate().for_each_init(
        || (vec![0.0f32; queries * tokens], vec![0.0f32; queries * tokens]),
        |(p, ds), (pair, lse)| {
            let (from, to) = shape.offsets(pair);
            let q = strided(&qkv[from..], 3 * width);
            let k = strided(&qkv[from + width..], 3 * width);
            let v = strided(&qkv[from + 2 * width..], 3 * width);
            let dy = strided(&dout[to..], width);
            scores(p, &qkv[from..], shape);
            vectorize(
                #[inline(always)]
                || {
                    for (i, (row, &lse)) in p.chunks_exact_mut(tokens).zip(lse).enumerate() {
                        let seen = if shape.causal { i + 1 } else { tokens };
                        row[..seen].iter_mut().for_each(|s| *s = exp_nonpositive(*s - lse));
                        row[seen..].fill(0.0);
                    }
                },
            );
            let probabilities = Mat::rows(p, tokens);
            // SAFETY: in each product below, the rows (3·width apart) and columns written are those of this image and
            // head, which no other task touches; `ds` is this task's own.
            unsafe {
                let dv = target.at(from + 2 * width);
                raw(Target::strided(dv, 3 * width), probabilities.t(), dy, (tokens, head_dim, queries), Threads::One);
                raw(Target::of(ds, tokens, false), dy, v.t(), (queries, tokens, head_dim), Threads::One);
            }
            vectorize(
                #[inline(always)]
                || {
                    for (i, (row, ds)) in p.chunks_exact(tokens).zip(ds.chunks_exact_mut(tokens)).enumerate() {
                        let at = to + i * width;
                        let (dy, y) = (&dout[at..at + head_dim], &out[at..at + head_dim]);
                        let mean = sum(head_dim, |j| dy[j] * y[j]);
                        for (ds, &p) in ds.iter_mut().zip(row) {
                            *ds = p * (*ds - mean) * scale;
                        }
                    }
                },
            );
            let ds = Mat::rows(ds, tokens);
            // SAFETY: as above.
            unsafe {
                let (dq, dk) = (target.at(from), target.at(from + width));
                raw(Target::strided(dq, 3 * width), ds, k, (queries, head_dim, tokens), Threads::One);
                raw(Target::strided(dk, 3 * width), ds.t(), q, (tokens, head_dim, queries), Threads::One);
                for token in queries..tokens {
                    std::slice::from_raw_parts_mut(target.at(from + token * 3 * width), head_dim).fill(0.0);
                }
            }
        },
    );
}

fn strided(data: &[f32], row_stride: usize) -> Mat {
    Mat { data: data.as_ptr(), row_stride, col_stride: 1 }
}

/// The probabilities `p [queries, tokens]` of the image and head whose q begins `qkv`, and the log-sum-exp of each row.
fn attend(p: &mut [f32], lse: &mut [f32], qkv: &[f32], shape: Shape) {
    scores(p, qkv, shape);
    vectorize(
        #[inline(always)]
        || {
            for (i, (row, lse)) in p.chunks_exact_mut(shape.tokens).zip(lse.iter_mut()).enumerate() {
                *lse = softmax_row(row, if shape.causal { i + 1 } else { shape.tokens });
            }
        },
    );
}

/// `s = Q·Kᵀ/√d [queries, tokens]` of the image and head whose q begins `qkv`.
fn scores(s: &mut [f32], qkv: &[f32], shape: Shape) {
    let width = shape.width();
    let (q, k) = (strided(qkv, 3 * width), strided(&qkv[width..], 3 * width));
    let scale = (shape.head_dim as f32).powf(-0.5);
    let sizes = (shape.queries, shape.tokens, shape.head_dim);
    let target = Target { alpha: scale, ..Target::of(s, shape.tokens, false) };
    // SAFETY: `s` holds queries × tokens; `Shape::check` proved that q and k of this image and head lie inside `qkv`.
    unsafe { raw(target, q, k.t(), sizes, Threads::One) }
}

/// Softmax of the first `seen` values, zeros after them; returns the log of the sum of exponentials.
#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32], seen: usize) -> f32 {
    let (top, total) = exponentials(row, seen);
    let inverse = 1.0 / total;
    row[..seen].iter_mut().for_each(|s| *s *= inverse);
    top + total.ln()
}

/// e^(value − the largest) of the first `seen` values, zeros after them; returns the largest, and the sum in [`sum`]'s
/// order.
#[inline(always)]
pub(super) fn exponentials(row: &mut [f32], seen: usize) -> (f32, f32) {
    let (row, unseen) = row.split_at_mut(seen);
    unseen.fill(0.0);
    let top = max(row);
    let mut sums = [0.0; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (value, sum) in chunk.iter_mut().zip(&mut sums) {
            *value = exp_nonpositive(*value - top);
            *sum += *value;
        }
    }
    for (value, sum) in chunks.into_remainder().iter_mut().zip(&mut sums) {
        *value = exp_nonpositive(*value - top);
        *sum += *value;
    }
    (top, total(sums))
}
