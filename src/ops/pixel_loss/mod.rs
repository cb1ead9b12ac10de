//! The loss of labelled pixels: softmax cross-entropy of logits `x [N, from², C]` enlarged bilinearly to `to²`
//! ([`bilinear`](super::bilinear)) against `labels [N, to²]`. A pixel whose label is not below C is ignored: its loss
//! and gradient are 0, but it counts in the mean over all pixels, as in mmsegmentation's `CrossEntropyLoss` by default.
//!
//! The enlarged logits z are never stored: a first pass keeps the log-sum-exp of every pixel, and the gradient of a
//! logit gathers Σ share·(exp(z − lse) − \[label\]) over the pixels that it is part of, z computed again.
//!
//! FLOPs: about 12 per class and pixel of `to²` for the loss, four times 10 for the gradient. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::bilinear::{Axis, Corners};
use super::math::exp_nonpositive;
use super::simd::{max, sum, vectorize};

/// Sizes: `n` of a step's `of` images, whose loss is one mean; `from²` pixels of `classes` logits become `to²`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub of: usize,
    pub from: usize,
    pub to: usize,
    pub classes: usize,
}

impl Shape {
    /// Values of the logits, and labelled pixels.
    pub fn lens(self) -> [usize; 2] {
        [self.from * self.from * self.classes, self.to * self.to].map(|len| self.n * len)
    }

    /// Either axis.
    pub fn axis(self) -> Axis {
        Axis { from: self.from, to: self.to }
    }

    /// Bytes moved by [`forward`] and [`backward`], with a gradient of `size` bytes per value.
    pub fn bytes(self, size: usize) -> [f64; 2] {
        let [logits, pixels] = self.lens();
        [4 * logits + 8 * pixels + 4 * self.n * self.to, (4 + size) * logits + 8 * pixels].map(|bytes| bytes as f64)
    }

    /// What a pixel's gradient is multiplied by when its loss is `weight` in the mean.
    pub(super) fn slope(self, weight: f32) -> f32 {
        (f64::from(weight) / (self.of * self.to * self.to) as f64) as f32
    }

    pub(super) fn check(self, logits: [usize; 2], pixels: [usize; 2], rows: usize) {
        let fits = (1..=self.of).contains(&self.n) && self.classes > 0 && self.axis().fits();
        let [values, labelled] = self.lens();
        let lengths = logits == [values; 2] && pixels == [labelled; 2] && rows == self.n * self.to;
        assert!(fits && lengths, "pixel loss: {logits:?} {pixels:?} {rows} of {self:?}");
    }

    /// The enlarged logits `[C]` of a pixel, from those of its image.
    fn enlarge(self, z: &mut [f32], logits: &[f32], row: usize, column: usize) {
        let corners = Corners::new(logits, self.axis(), self.classes, row, column);
        vectorize(
            #[inline(always)]
            || z.iter_mut().enumerate().for_each(|(i, z)| *z = corners.value(i)),
        );
    }
}

/// What is computed of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    pub shape: Shape,
    /// What the mean over pixels is multiplied by.
    pub weight: f32,
    /// Whether losses are added to what is there.
    pub add: bool,
}

/// `losses [N, to]`, one number for every line of pixels, whose mean over the step is the loss, and `lse [N, to²]`, the
/// log-sum-exp of every pixel; [`backward`] needs the latter.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(losses: &mut [f32], lse: &mut [f32], logits: &[f32], labels: &[u32], of: Loss) {
    let Loss { shape, weight, add } = of;
    shape.check([logits.len(); 2], [lse.len(), labels.len()], losses.len());
    let Shape { from, to, classes, .. } = shape;
    let lines = losses.par_iter_mut().zip(lse.par_chunks_exact_mut(to)).zip(labels.par_chunks_exact(to));
    lines.enumerate().for_each(|(line, ((loss, lse), labels))| {
        let logits = &logits[line / to * from * from * classes..][..from * from * classes];
        let (mut z, mut total) = (vec![0.0; classes], 0.0f64);
        for (column, (lse, &label)) in lse.iter_mut().zip(labels).enumerate() {
            shape.enlarge(&mut z, logits, line % to, column);
            *lse = vectorize(
                #[inline(always)]
                || {
                    let top = max(&z);
                    top + sum(classes, |c| exp_nonpositive(z[c] - top)).ln()
                },
            );
            total += z.get(label as usize).map_or(0.0, |own| f64::from(*lse - own));
        }
        let mean = (f64::from(weight) * total / to as f64) as f32;
        *loss = if add { *loss + mean } else { mean };
    });
}

/// `d [N, from², C]`, the gradient of the logits of this call's images in the mean over a step's, from what [`forward`]
/// kept; gathered in the order of the pixels.
///
/// # Panics
/// If lengths do not fit.
pub fn backward(d: &mut [f32], logits: &[f32], lse: &[f32], labels: &[u32], of: Loss) {
    let Loss { shape, weight, .. } = of;
    shape.check([d.len(), logits.len()], [lse.len(), labels.len()], shape.n * shape.to);
    let Shape { from, to, classes, .. } = shape;
    let (axis, slope) = (shape.axis(), shape.slope(weight));
    d.par_chunks_exact_mut(classes).enumerate().for_each_init(
        || vec![0.0; classes],
        |z, (place, d)| {
            let (image, row, column) = (place / (from * from), place / from % from, place % from);
            let logits = &logits[image * from * from * classes..][..from * from * classes];
            d.fill(0.0);
            for y in axis.reach(row) {
                let down = axis.share(y, row);
                for x in axis.reach(column) {
                    let (pixel, weight) = ((image * to + y) * to + x, down * axis.share(x, column));
                    let label = labels[pixel] as usize;
                    if label >= classes {
                        continue;
                    }
                    shape.enlarge(z, logits, y, x);
                    let lse = lse[pixel];
                    vectorize(
                        #[inline(always)]
                        || d.iter_mut().zip(&*z).for_each(|(d, z)| *d += weight * exp_nonpositive(z - lse)),
                    );
                    d[label] -= weight;
                }
            }
            d.iter_mut().for_each(|d| *d *= slope);
        },
    );
}
