//! Softmax cross-entropy of many classifiers at once: N rows, G heads, C classes; logits `[N, G·C]`, a head's C values adjacent.
//!
//! loss(n, g) = ln Σ_c exp(x(n, g, c)) − x(n, g, label(n)), so the heads do not see each other's gradient and a linear probe
//! trains all its learning rates in one matrix product.
//!
//! FLOPs: about 12·N·G·C forward, 10·N·G·C backward. Bytes: 4·N·G·C forward, 8·N·G·C backward.

use rayon::prelude::*;

use super::math::exp;
use super::simd;

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
    fn check(self, logits: &[f32], log_sums: &[f32], labels: &[u32]) {
        assert!(self.heads > 0 && self.classes > 0, "{self:?}");
        assert_eq!(logits.len(), self.rows * self.heads * self.classes, "logits of {self:?}");
        assert_eq!(log_sums.len(), self.rows * self.heads, "log_sums of {self:?}");
        assert_eq!(labels.len(), self.rows, "labels of {self:?}");
        assert!(labels.iter().all(|&label| (label as usize) < self.classes), "a label is not below {}", self.classes);
    }
}

/// `losses[N, G]` and, for [`backward`], `log_sums[N, G]` = ln Σ_c exp(logit), stable for logits of any size.
///
/// # Panics
/// When a slice has another length than `shape` says or a label is not below `shape.classes`.
pub fn forward(losses: &mut [f32], log_sums: &mut [f32], logits: &[f32], labels: &[u32], shape: Shape) {
    shape.check(logits, log_sums, labels);
    assert_eq!(losses.len(), log_sums.len(), "losses of {shape:?}");
    let Shape { heads, classes, .. } = shape;
    (losses.par_chunks_mut(ROWS * heads), log_sums.par_chunks_mut(ROWS * heads))
        .into_par_iter()
        .zip(logits.par_chunks(ROWS * heads * classes))
        .zip(labels.par_chunks(ROWS))
        .for_each(|(((losses, log_sums), logits), labels)| {
            simd::vectorize(
                #[inline(always)]
                || {
                    let rows = losses.chunks_exact_mut(heads).zip(log_sums.chunks_exact_mut(heads));
                    for (((losses, log_sums), logits), &label) in
                        rows.zip(logits.chunks_exact(heads * classes)).zip(labels)
                    {
                        for (g, x) in logits.chunks_exact(classes).enumerate() {
                            let max = simd::max(x);
                            let sum = simd::sum(classes, |c| exp(x[c] - max));
                            log_sums[g] = max + sum.ln();
                            losses[g] = log_sums[g] - x[label as usize];
                        }
                    }
                },
            );
        });
}

/// `dlogits[N, G·C]` = `scale`·(softmax − one-hot of the label), from the `log_sums` of [`forward`]. `scale` is 1/N for a mean.
///
/// # Panics
/// As [`forward`].
pub fn backward(dlogits: &mut [f32], logits: &[f32], log_sums: &[f32], labels: &[u32], scale: f32, shape: Shape) {
    shape.check(logits, log_sums, labels);
    assert_eq!(dlogits.len(), logits.len(), "dlogits of {shape:?}");
    let Shape { heads, classes, .. } = shape;
    dlogits
        .par_chunks_mut(ROWS * heads * classes)
        .zip(logits.par_chunks(ROWS * heads * classes))
        .zip(log_sums.par_chunks(ROWS * heads))
        .zip(labels.par_chunks(ROWS))
        .for_each(|(((dlogits, logits), log_sums), labels)| {
            simd::vectorize(
                #[inline(always)]
                || {
                    let groups = dlogits.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)).zip(log_sums);
                    for (i, ((dx, x), &log_sum)) in groups.enumerate() {
                        for (dx, &x) in dx.iter_mut().zip(x) {
                            *dx = scale * exp(x - log_sum);
                        }
                        dx[labels[i / heads] as usize] -= scale;
                    }
                },
            );
        });
}
