//! Layer norms of queries and keys before their products (QK-norm; Henry et al. 2020, arXiv 2010.04245, with Ba et
//! al.'s norm as timm's `qk_norm` and LaCLIP have it): of every head's own values, by one gain and shift for all
//! queries and one for all keys.
//!
//! `qkv` is `[N, T, 3, G, d]`, of which values go through as they are. FLOPs per query or key value: forward 8,
//! backward
//! 13. Memory-bound: see [`bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::layernorm::{backward_row, forward_row};
use super::reduce::add;
use super::simd::vectorize;

/// Tokens per task, and per partial sum of the parameter gradients.
const TOKENS: usize = 32;

/// `tokens` of all images together, heads G, head dimension d.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
}

impl Shape {
    /// Values of a third of a token: its queries, its keys, or its values.
    fn width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of `qkv`.
    pub fn qkv_len(self) -> usize {
        self.tokens * 3 * self.width()
    }

    /// Mean and 1/√(variance + eps) of every query and key: `[tokens, 2, G, 2]`.
    pub fn stats_len(self) -> usize {
        self.tokens * 2 * self.heads * 2
    }

    /// Gain and shift of queries, then of keys: `[4, d]`.
    pub fn affine_len(self) -> usize {
        4 * self.head_dim
    }

    pub(super) fn check(self, qkv: usize, stats: usize, affine: usize) {
        assert!(
            self.head_dim > 0 && qkv == self.qkv_len() && stats == self.stats_len() && affine == self.affine_len(),
            "qk_norm: {qkv} values of qkv, {stats} statistics and {affine} parameters of {self:?}"
        );
    }
}

/// `y`, as long as `qkv`: norms of its queries and keys, and its values; `stats` for [`backward`].
pub fn forward(y: &mut [f32], stats: &mut [f32], qkv: &[f32], affine: &[f32], eps: f32, shape: Shape) {
    shape.check(qkv.len(), stats.len(), affine.len());
    assert_eq!(y.len(), qkv.len(), "qk_norm: y");
    let (d, width) = (shape.head_dim, shape.width());
    let tasks = y.par_chunks_mut(TOKENS * 3 * width).zip(stats.par_chunks_mut(TOKENS * 4 * shape.heads));
    tasks.zip(qkv.par_chunks(TOKENS * 3 * width)).for_each(|((y, stats), qkv)| {
        vectorize(
            #[inline(always)]
            || {
                let tokens = y.chunks_exact_mut(3 * width).zip(stats.chunks_exact_mut(4 * shape.heads));
                for ((y, stats), qkv) in tokens.zip(qkv.chunks_exact(3 * width)) {
                    let rows = y.chunks_exact_mut(d).zip(qkv.chunks_exact(d)).zip(stats.chunks_exact_mut(2));
                    for (row, ((y, x), stats)) in rows.enumerate() {
                        let (gamma, beta) = affine[row / shape.heads * 2 * d..][..2 * d].split_at(d);
                        forward_row(y, stats, x, gamma, beta, eps);
                    }
                    y[2 * width..].copy_from_slice(&qkv[2 * width..]);
                }
            },
        );
    });
}

/// Turns the gradient `d` of the result into that of `qkv`; `daffine` is added to.
pub fn backward(d: &mut [f32], daffine: &mut [f32], qkv: &[f32], stats: &[f32], affine: &[f32], shape: Shape) {
    shape.check(qkv.len(), stats.len(), affine.len());
    assert!(d.len() == qkv.len() && daffine.len() == affine.len(), "qk_norm: gradients");
    let (len, width) = (shape.head_dim, shape.width());
    let tasks = d.par_chunks_mut(TOKENS * 3 * width).zip(qkv.par_chunks(TOKENS * 3 * width));
    let partials: Vec<Vec<f32>> = tasks
        .zip(stats.par_chunks(TOKENS * 4 * shape.heads))
        .map(|((d, qkv), stats)| {
            let (mut partial, mut dy) = (vec![0.0; 4 * len], vec![0.0; len]);
            vectorize(
                #[inline(always)]
                || {
                    let tokens = d.chunks_exact_mut(3 * width).zip(qkv.chunks_exact(3 * width));
                    for ((d, qkv), stats) in tokens.zip(stats.chunks_exact(4 * shape.heads)) {
                        let rows = d.chunks_exact_mut(len).zip(qkv.chunks_exact(len)).zip(stats.chunks_exact(2));
                        for (row, ((dx, x), stats)) in rows.enumerate() {
                            let of = row / shape.heads * 2 * len;
                            dy.copy_from_slice(dx);
                            dx.fill(0.0);
                            backward_row(dx, &mut partial[of..of + 2 * len], &dy, x, stats, &affine[of..of + len]);
                        }
                    }
                },
            );
            partial
        })
        .collect();
    partials.iter().for_each(|partial| add(daffine, partial));
}

/// Bytes moved by forward (read qkv, write y and statistics) and backward (read qkv and statistics, read and write the
/// gradient of queries and keys) over values of `stored` bytes.
pub fn bytes(shape: Shape, stored: usize) -> (f64, f64) {
    let (third, stats) = (stored * shape.qkv_len() / 3, 4 * shape.stats_len());
    ((6 * third + stats) as f64, (6 * third + stats) as f64)
}
