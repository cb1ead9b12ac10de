//! Kernels for NEON, which every 64-bit Arm has.

use std::arch::aarch64::*;

use super::kernel::{Kernels, ROWS_AT_MOST, Tile, each, kernels, micro, opaque};

micro!(
    neon_f32: f32, float32x4_t, 4, vdupq_n_f32(0.0), vld1q_f32, vst1q_f32, vdupq_n_f32, |a, b, sum| vfmaq_f32(sum, a, b),
    |_| ()
);
micro!(
    neon_f64: f64, float64x2_t, 2, vdupq_n_f64(0.0), vld1q_f64, vst1q_f64, vdupq_n_f64, |a, b, sum| vfmaq_f64(sum, a, b),
    |_| ()
);

// Of 32 registers 24 hold sums.
pub(super) const F32: Kernels<f32> =
    Kernels { name: "NEON", lanes: 4, run: kernels!(neon_f32: [1, 2, 3, 4] by [1, 2, 3, 4, 5, 6]) };
pub(super) const F64: Kernels<f64> =
    Kernels { name: "NEON", lanes: 2, run: kernels!(neon_f64: [1, 2, 3, 4] by [1, 2, 3, 4, 5, 6]) };
