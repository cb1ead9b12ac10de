//! Numbers as the PTX machine holds them: formats, roundings, and functions with a documented error.
//!
//! Everything is a pure function of bits. Conversions and directed roundings are exact (one rounding of the exact
//! result); the `.approx` functions are correctly rounded or nearly so, hence within the error PTX allows. A real
//! card's last bits of those differ, and kernels must not depend on them.

pub mod approx;
pub mod convert;
pub mod directed;
pub mod exact;
pub mod format;
pub mod half;
pub mod integer;
pub mod warp;

pub use convert::{Cast, Saturation};
pub use exact::{Exact, Rounding};
pub use format::{Format, bf16_to_f32, e4m3_to_f32, e5m2_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, tf32_to_f32};

/// The NaN that f32 arithmetic returns on the device, whatever NaN came in.
pub const NAN_F32: f32 = f32::from_bits(0x7fff_ffff);

/// A subnormal becomes a zero of its sign: what `.ftz` does to f32 operands and results.
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// `.sat`: clamps to [0, 1]; NaN and both zeros become +0.
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}
