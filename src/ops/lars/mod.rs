//! LARS (You et al. 2017, arXiv 1708.03888) over the flat parameter buffer: SGD with momentum whose step is, tensor by
//! tensor, a share of the tensor's own norm; in the form of BYOL's and MoCo v3's code:
//!
//! `d = g + wd·p`, `m ← μ·m + (trust·‖p‖/‖d‖)·d`, `p ← p − lr·m`.
//!
//! Biases and norms are neither decayed nor scaled: for them `m ← μ·m + g`.
//!
//! FLOPs: about 12 per parameter. Bytes: 28 per parameter (read p and g twice; read m, write p and m).

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

/// A tensor of the flat buffer, and whether it is decayed and scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub range: Range<usize>,
    pub scaled: bool,
}

/// Settings of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lars {
    pub lr: f64,
    /// μ.
    pub momentum: f64,
    pub weight_decay: f64,
    pub trust: f64,
}

impl Lars {
    /// One update of `p` and its momentum `m` with gradient `g`; what is in no tensor stays as it is.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn update(&self, p: &mut [f32], m: &mut [f32], g: &[f32], tensors: &[Tensor]) {
        assert!(m.len() == p.len() && g.len() == p.len(), "lars: p, m, g");
        let [lr, momentum, weight_decay] = [self.lr, self.momentum, self.weight_decay].map(|value| value as f32);
        for Tensor { range, scaled } in tensors {
            let (p, m, g) = (&mut p[range.clone()], &mut m[range.clone()], &g[range.clone()]);
            let (decay, factor) = if *scaled { (weight_decay, self.factor(p, g)) } else { (0.0, 1.0) };
            p.par_chunks_mut(VALUES).zip(m.par_chunks_mut(VALUES)).zip(g.par_chunks(VALUES)).for_each(|((p, m), g)| {
                vectorize(
                    #[inline(always)]
                    || {
                        for ((p, m), &g) in p.iter_mut().zip(m).zip(g) {
                            *m = momentum * *m + factor * (g + decay * *p);
                            *p -= lr * *m;
                        }
                    },
                );
            });
        }
    }

    /// `trust·‖p‖/‖g + wd·p‖`; 1 where either is 0.
    fn factor(&self, p: &[f32], g: &[f32]) -> f32 {
        let decay = self.weight_decay as f32;
        let squares = |(p, g): (&[f32], &[f32])| {
            p.iter().zip(g).fold([0.0f64; 2], |[a, b], (&p, &g)| {
                let d = g + decay * p;
                [a + f64::from(p).powi(2), b + f64::from(d).powi(2)]
            })
        };
        let parts: Vec<[f64; 2]> = p.par_chunks(VALUES).zip(g.par_chunks(VALUES)).map(squares).collect();
        let [p, d] = parts.iter().fold([0.0; 2], |[a, b], part| [a + part[0], b + part[1]]);
        if p > 0.0 && d > 0.0 { (self.trust * p.sqrt() / d.sqrt()) as f32 } else { 1.0 }
    }
}
