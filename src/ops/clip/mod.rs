//! Gradients cut to a norm, each tensor on its own, as DINO's code does it (`clip_gradients`):
//! `g ← g·min(1, most/(‖g‖ + 1e-6))`.
//!
//! FLOPs: 3 per value. Bytes: 4 per value, 12 where a tensor is cut.

use std::ops::Range;

use rayon::prelude::*;

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use super::reduce::sum_of_squares;

/// Cuts the gradient of every tensor, a run of `g`, to the norm `most`.
pub fn clip(g: &mut [f32], tensors: &[Range<usize>], most: f64) {
    for tensor in tensors {
        let g = &mut g[tensor.clone()];
        let factor = (most / (sum_of_squares(g).sqrt() + 1e-6)) as f32;
        if factor < 1.0 {
            g.par_iter_mut().for_each(|g| *g *= factor);
        }
    }
}
