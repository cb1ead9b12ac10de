//! Between the number formats of storage: bf16 from f32, rounded to nearest even, and back, which is exact.
//!
//! FLOPs: none. Bytes: 6 per value.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use half::bf16;
use half::slice::HalfFloatSliceExt;

/// `y = x`, rounded.
///
/// # Panics
/// If the lengths differ.
pub fn to_bf16(y: &mut [bf16], x: &[f32]) {
    y.convert_from_f32_slice(x);
}

/// `y = x`.
///
/// # Panics
/// If the lengths differ.
pub fn to_f32(y: &mut [f32], x: &[bf16]) {
    x.convert_to_f32_slice(y);
}
