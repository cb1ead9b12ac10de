//! AdamW (Loshchilov & Hutter 2019) over the flat parameter buffer, in PyTorch's order of operations.
//!
//! FLOPs: about 15 per parameter. Bytes: 28 per parameter (read p, m, v, g; write p, m, v).

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::ops::Range;

use rayon::prelude::*;

use super::simd::vectorize;

/// Parameters per task.
const VALUES: usize = 1 << 14;

/// A stretch of the flat buffer whose tensors are all decayed or all not, at one rate, from one update on.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub range: Range<usize>,
    pub decay: bool,
    /// What the learning rate is multiplied by.
    pub rate: f64,
    /// Whether nothing is learned of it in the first epoch; its updates are counted from there on.
    pub late: bool,
}

impl Group {
    /// At the learning rate itself, from the first update on.
    pub fn new(range: Range<usize>, decay: bool) -> Self {
        Self { range, decay, rate: 1.0, late: false }
    }
}

/// Settings of one update; `step` counts from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub step: u64,
}

/// The constants of one update, rounded once from f64.
struct Coefficients {
    step_size: f32,
    /// For decayed values; the others keep 1.
    shrink: f32,
    lerp: f32,
    beta2: f32,
    rest2: f32,
    correction: f32,
    eps: f32,
}

impl AdamW {
    /// With the learning rate times `rate`; decay follows it, as in PyTorch.
    pub fn at(&self, rate: f64) -> Self {
        Self { lr: self.lr * rate, ..*self }
    }

    fn coefficients(&self) -> Coefficients {
        let step = self.step as f64;
        Coefficients {
            step_size: (-self.lr / (1.0 - self.beta1.powf(step))) as f32,
            shrink: (1.0 - self.lr * self.weight_decay) as f32,
            lerp: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            correction: (1.0 - self.beta2.powf(step)).sqrt() as f32,
            eps: self.eps as f32,
        }
    }

    /// Of the values in `groups`, late ones too: `p ← p·(1 − lr·wd)`, `m ← m + (1−β1)(g − m)`, `v ← β2·v + (1−β2)g²`,
    /// `p ← p − lr/(1−β1ᵗ)·m / (√v/√(1−β2ᵗ) + eps)`.
    pub fn update(&self, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], groups: &[Group]) {
        assert!(m.len() == p.len() && v.len() == p.len() && g.len() == p.len(), "adamw: p, m, v, g");
        for group in groups {
            let Coefficients { step_size, shrink, lerp, beta2, rest2, correction, eps } =
                self.at(group.rate).coefficients();
            let shrink = if group.decay { shrink } else { 1.0 };
            let r = group.range.clone();
            p[r.clone()]
                .par_chunks_mut(VALUES)
                .zip(m[r.clone()].par_chunks_mut(VALUES))
                .zip(v[r.clone()].par_chunks_mut(VALUES))
                .zip(g[r].par_chunks(VALUES))
                .for_each(|(((p, m), v), g)| {
                    vectorize(
                        #[inline(always)]
                        || {
                            for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                                *m += lerp * (g - *m);
                                *v = *v * beta2 + rest2 * g * g;
                                let denominator = v.sqrt() / correction + eps;
                                *p = *p * shrink + step_size * (*m / denominator);
                            }
                        },
                    );
                });
        }
    }
}

/// One step of a momentum copy towards what it copies: `slow ← slow + rate·(fast − slow)`, where `rate` is one minus
/// the momentum.
///
/// # Panics
/// If the lengths differ.
pub fn follow(slow: &mut [f32], fast: &[f32], rate: f32) {
    assert_eq!(slow.len(), fast.len(), "follow");
    slow.par_chunks_mut(VALUES).zip(fast.par_chunks(VALUES)).for_each(|(slow, fast)| {
        vectorize(
            #[inline(always)]
            || slow.iter_mut().zip(fast).for_each(|(slow, fast)| *slow += rate * (fast - *slow)),
        );
    });
}

/// FLOPs of one update of `parameters`.
pub fn flops(parameters: usize) -> f64 {
    15.0 * parameters as f64
}

/// Bytes moved by one update of `parameters`.
pub fn bytes(parameters: usize) -> f64 {
    28.0 * parameters as f64
}
