//! Rectifier: `max(x, 0)`, in place, and its gradient from the output.
//!
//! FLOPs: 1 per value. Bytes: forward 8 and backward 12 per value.

use rayon::prelude::*;

use super::simd::vectorize;

/// Values per task.
const VALUES: usize = 1 << 14;

/// `x = max(x, 0)`; NaN stays NaN, so that a divergence is seen.
pub fn forward_in_place(x: &mut [f32]) {
    x.par_chunks_mut(VALUES).for_each(|x| {
        vectorize(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        );
    });
}

/// `dx` holds the gradient of the output `y` and becomes that of the input: 0 where `y` is 0.
pub fn backward_in_place(dx: &mut [f32], y: &[f32]) {
    assert_eq!(dx.len(), y.len(), "relu: dx and y");
    dx.par_chunks_mut(VALUES).zip(y.par_chunks(VALUES)).for_each(|(dx, y)| {
        vectorize(
            #[inline(always)]
            || dx.iter_mut().zip(y).for_each(|(dx, &y)| *dx = if y > 0.0 { *dx } else { 0.0 }),
        );
    });
}

/// FLOPs of forward and backward over `values`.
pub fn flops(values: usize) -> (f64, f64) {
    (values as f64, values as f64)
}

/// Bytes moved by forward and backward over `values`.
pub fn bytes(values: usize) -> (f64, f64) {
    (8.0 * values as f64, 12.0 * values as f64)
}
