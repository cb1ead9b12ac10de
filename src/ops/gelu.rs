//! Exact GELU (Hendrycks & Gimpel 2016): `x·Φ(x)` with the normal distribution function by erf, and its derivative `Φ(x) + x·φ(x)`.
//!
//! Per-value functions for use inside [`super::simd::vectorize`]; [`super::linear`] runs them on rows still in cache.

use super::math::{erf, normal_pdf};

/// Distribution function of N(0, 1).
#[inline(always)]
pub(super) fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// `y = gelu(x)`.
#[inline(always)]
pub fn forward(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * normal_cdf(x);
    }
}

/// `dx` holds the gradient of the output and becomes that of the input: `dx ·= gelu′(x)`.
#[inline(always)]
pub fn backward_in_place(dx: &mut [f32], x: &[f32]) {
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx *= normal_cdf(x) + x * normal_pdf(x);
    }
}

/// FLOPs of forward and backward over `values`.
pub fn flops(values: usize) -> (f64, f64) {
    (29.0 * values as f64, 52.0 * values as f64)
}

/// Bytes moved by forward and backward over `values` when run on their own.
pub fn bytes(values: usize) -> (f64, f64) {
    (8.0 * values as f64, 12.0 * values as f64)
}
