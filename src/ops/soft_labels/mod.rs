//! Softmax cross-entropy against soft targets: label smoothing (Szegedy et al. 2016, §7) of two mixed labels (mixup,
//! arXiv 1710.09412; CutMix, arXiv 1905.04899), as timm's `mixup_target` and `SoftTargetCrossEntropy` have it.
//!
//! With logits `x [N, C]` and, of row i, the labels a and b, of which a has the share λ, and smoothing s:
//! q = s/C everywhere, (1 − s)·λ more at a and (1 − s)·(1 − λ) more at b; loss_i = −Σ_c q_c·ln softmax(x_i)_c, and the
//! loss of a step of R rows is their mean, so that the gradient is (softmax(x_i) − q)/R.
//!
//! FLOPs: 15 per value. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::self_attention::softmax_row;
use super::simd::{sum, vectorize};

/// Sizes: `rows` of a step's `of`, whose loss is one mean, and so many classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub rows: usize,
    pub of: usize,
    pub classes: usize,
    /// Share of a target that all classes have alike.
    pub smoothing: f32,
}

impl Shape {
    /// Values of the logits.
    pub fn len(self) -> usize {
        self.rows * self.classes
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes moved, with a gradient of `size` bytes per value.
    pub fn bytes(self, size: usize) -> f64 {
        ((12 + size) * self.len()) as f64
    }

    /// What a target has everywhere, and what its labels share.
    pub(super) fn parts(self) -> [f32; 2] {
        [self.smoothing / self.classes as f32, 1.0 - self.smoothing]
    }

    pub(super) fn check(self, lengths: [usize; 2], rows: [usize; 4]) {
        let Self { of, classes, smoothing, .. } = self;
        assert!((1..=of).contains(&self.rows) && classes > 0 && (0.0..1.0).contains(&smoothing), "{self:?}");
        assert!(lengths == [self.len(); 2] && rows == [self.rows; 4], "soft labels: {lengths:?} {rows:?} of {self:?}");
    }
}

/// What rows are labelled with.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// `[N]` each.
    pub both: [&'a [u32]; 2],
    /// `[N]`: the bits (f32) of the first one's share λ.
    pub shares: &'a [u32],
}

/// `losses [N]` of the logits `x [N, C]` and their gradient `dx`; both are overwritten.
///
/// # Panics
/// If lengths do not fit or a label is not below C.
pub fn forward(dx: &mut [f32], losses: &mut [f32], x: &[f32], labels: Labels<'_>, shape: Shape) {
    let Labels { both: [first, second], shares } = labels;
    shape.check([dx.len(), x.len()], [losses.len(), first.len(), second.len(), shares.len()]);
    let (classes, [even, own], scale) = (shape.classes, shape.parts(), 1.0 / shape.of as f32);
    let rows = dx.par_chunks_exact_mut(classes).zip(x.par_chunks_exact(classes)).zip(losses).enumerate();
    rows.for_each(|(i, ((dx, x), loss))| {
        let (a, b, share) = (first[i] as usize, second[i] as usize, f32::from_bits(shares[i]));
        dx.copy_from_slice(x);
        let (lse, total) = vectorize(
            #[inline(always)]
            || {
                let lse = softmax_row(dx, classes);
                dx.iter_mut().for_each(|p| *p = scale * (*p - even));
                (lse, sum(classes, |c| lse - x[c]))
            },
        );
        *loss = own * (lse - share * x[a] - (1.0 - share) * x[b]) + even * total;
        dx[a] -= scale * own * share;
        dx[b] -= scale * own * (1.0 - share);
    });
}
