//! Kernels for NEON, which every 64-bit Arm has.

use std::arch::aarch64::*;

use super::kernel::{Kernels, ROWS_AT_MOST, Tile, each, kernels, micro, opaque};
use super::pair::Pair;

micro!(
    neon_f32: f32, 4, |_| (),
    sums: f32, float32x4_t, vdupq_n_f32(0.0), vld1q_f32, vst1q_f32, vdupq_n_f32, |a, b, sum| vfmaq_f32(sum, a, b),
    operands: vdupq_n_f32(0.0), vld1q_f32, vdupq_n_f32, |a, b, sum| vfmaq_f32(sum, a, b)
);
micro!(
    neon_f64: f64, 2, |_| (),
    sums: f64, float64x2_t, vdupq_n_f64(0.0), vld1q_f64, vst1q_f64, vdupq_n_f64, |a, b, sum| vfmaq_f64(sum, a, b),
    operands: vdupq_n_f64(0.0), vld1q_f64, vdupq_n_f64, |a, b, sum| vfmaq_f64(sum, a, b)
);

micro!(
    neon_pairs: Pair, 4, |_| (),
    sums: f32, float32x4_t, vdupq_n_f32(0.0), vld1q_f32, vst1q_f32, vdupq_n_f32, |a, b, sum| vfmaq_f32(sum, a, b),
    operands: [vdupq_n_f32(0.0); 2],
    |at: *const Pair| {
        let pairs = vld1q_u32(at.cast());
        let upper = vandq_u32(pairs, vdupq_n_u32(!0xffff));
        [vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)), vreinterpretq_f32_u32(upper)]
    },
    |pair: Pair| pair.widened().map(|value| vdupq_n_f32(value)),
    |a: [float32x4_t; 2], b: [float32x4_t; 2], sum| vfmaq_f32(vfmaq_f32(sum, a[1], b[1]), a[0], b[0])
);

// Of 32 registers 24 hold sums.
pub(super) const F32: Kernels<f32> = Kernels {
    name: "NEON",
    lanes: 4,
    run: kernels!(neon_f32: [1, 2, 3, 4] by [1, 2, 3, 4, 5, 6]),
    adjacent: false,
    transpose: None,
};
pub(super) const F64: Kernels<f64> = Kernels {
    name: "NEON",
    lanes: 2,
    run: kernels!(neon_f64: [1, 2, 3, 4] by [1, 2, 3, 4, 5, 6]),
    adjacent: false,
    transpose: None,
};
// Operands take two registers each.
pub(super) const PAIRS: Kernels<Pair, f32> = Kernels {
    name: "NEON",
    lanes: 4,
    run: kernels!(neon_pairs: [1, 2, 3, 4] by [1, 2, 3, 4, 5]),
    adjacent: false,
    transpose: None,
};
