//! Exact GELU (Hendrycks & Gimpel 2016): `x·Φ(x)` with Φ the distribution function of N(0, 1), and its derivative `Φ(x)
//! + x·φ(x)`.
//!
//! Per-value functions for use inside [`super::simd::vectorize`]; [`super::linear`] runs them on rows still in cache.

use super::math::exp_nonpositive;

/// Φ(x) within 1e-7 and e^(−x²/2): the exponential serves both the distribution function and the density.
/// Φ by Abramowitz & Stegun 7.1.26, `erf(z) = 1 − (a1·t + … + a5·t⁵)·e^(−z²)`, `t = 1/(1 + p·z)`, z = |x|/√2.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let t = 1.0 / (0.3275911 * std::f32::consts::FRAC_1_SQRT_2).mul_add(x.abs(), 1.0);
    let bell = exp_nonpositive(-0.5 * x * x);
    let p = 0.5 * 1.061_405_4f32;
    let p = p.mul_add(t, -0.5 * 1.453_152_1);
    let p = p.mul_add(t, 0.5 * 1.421_413_8);
    let p = p.mul_add(t, -0.5 * 0.284_496_74);
    let p = p.mul_add(t, 0.5 * 0.254_829_6);
    let tail = p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

/// Φ(x).
#[inline(always)]
pub(super) fn normal_cdf(x: f32) -> f32 {
    normal(x).0
}

/// 1/√(2π).
const DENSITY: f32 = 0.398_942_3;

/// `y = gelu(x)`.
#[inline(always)]
pub fn forward(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * normal(x).0;
    }
}

/// `dx` holds the gradient of the output and becomes that of the input: `dx ·= gelu′(x)`.
#[inline(always)]
pub fn backward_in_place(dx: &mut [f32], x: &[f32]) {
    for (dx, &x) in dx.iter_mut().zip(x) {
        let (cdf, bell) = normal(x);
        *dx *= (DENSITY * x).mul_add(bell, cdf);
    }
}

/// FLOPs of forward and backward over `values`.
pub fn flops(values: usize) -> (f64, f64) {
    (38.0 * values as f64, 41.0 * values as f64)
}

/// Bytes moved by forward and backward over `values` when run on their own.
pub fn bytes(values: usize) -> (f64, f64) {
    (8.0 * values as f64, 12.0 * values as f64)
}
