//! Softmax cross-entropy of many classifiers at once: N rows, G heads, C classes; logits `[N, G·C]`, a head's C values
//! adjacent.
//!
//! loss(n, g) = ln Σ_c exp(x(n, g, c)) − x(n, g, label(n)), so the heads do not see each other's gradient and a linear
//! probe trains all its learning rates in one matrix product.
//!
//! FLOPs and bytes: [`Shape::flops`], [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::self_attention::softmax_row;
use super::simd::vectorize;

/// Rows one rayon task takes: enough work to pay for its start, fixed so that results never depend on the thread count.
const ROWS: usize = 16;

/// Sizes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub heads: usize,
    pub classes: usize,
}

impl Shape {
    /// FLOPs of forward and backward.
    pub fn flops(self) -> (f64, f64) {
        let values = (self.rows * self.heads * self.classes) as f64;
        (13.0 * values, values)
    }

    /// Bytes moved by forward and backward.
    pub fn bytes(self) -> (f64, f64) {
        let values = (self.rows * self.heads * self.classes) as f64;
        (8.0 * values, 8.0 * values)
    }

    fn check(self, x: &[f32], labels: &[u32]) {
        assert!(self.heads > 0 && self.classes > 0, "{self:?}");
        assert_eq!(x.len(), self.rows * self.heads * self.classes, "values of {self:?}");
        assert_eq!(labels.len(), self.rows, "labels of {self:?}");
        assert!(labels.iter().all(|&label| (label as usize) < self.classes), "a label is not below {}", self.classes);
    }
}

/// `losses[N, G]`, stable for logits of any size; turns the logits `x[N, G·C]` into the probabilities that
/// [`backward_in_place`] wants.
///
/// # Panics
/// When a slice has another length than `shape` says or a label is not below `shape.classes`.
pub fn forward_in_place(losses: &mut [f32], x: &mut [f32], labels: &[u32], shape: Shape) {
    shape.check(x, labels);
    let Shape { rows, heads, classes } = shape;
    assert_eq!(losses.len(), rows * heads, "losses of {shape:?}");
    let blocks = losses.par_chunks_mut(ROWS * heads).zip(x.par_chunks_mut(ROWS * heads * classes));
    blocks.zip(labels.par_chunks(ROWS)).for_each(|((losses, x), labels)| {
        vectorize(
            #[inline(always)]
            || {
                for (i, (loss, x)) in losses.iter_mut().zip(x.chunks_exact_mut(classes)).enumerate() {
                    let logit = x[labels[i / heads] as usize];
                    *loss = softmax_row(x, classes) - logit;
                }
            },
        );
    });
}

/// Turns the probabilities `x[N, G·C]` of [`forward_in_place`] into the gradient of the logits: `scale`·(softmax −
/// one-hot of the label). `scale` is 1/N for a mean over rows.
///
/// # Panics
/// As [`forward_in_place`].
pub fn backward_in_place(x: &mut [f32], labels: &[u32], scale: f32, shape: Shape) {
    shape.check(x, labels);
    let Shape { heads, classes, .. } = shape;
    x.par_chunks_mut(ROWS * heads * classes).zip(labels.par_chunks(ROWS)).for_each(|(x, labels)| {
        vectorize(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x *= scale),
        );
        for (i, x) in x.chunks_exact_mut(classes).enumerate() {
            x[labels[i / heads] as usize] -= scale;
        }
    });
}
