//! Vectors in f64.

use crate::ops::simd::vectorize;

/// `features` as f64.
pub(super) fn widened(features: &[f32]) -> Vec<f64> {
    features.iter().map(|&v| f64::from(v)).collect()
}

/// Σ a·b in eight lanes.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    vectorize(
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; LANES];
            let (a_body, b_body) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
            let tail: f64 = a_body.remainder().iter().zip(b_body.remainder()).map(|(a, b)| a * b).sum();
            for (a, b) in a_body.zip(b_body) {
                for l in 0..LANES {
                    lanes[l] += a[l] * b[l];
                }
            }
            lanes.iter().sum::<f64>() + tail
        },
    )
}
