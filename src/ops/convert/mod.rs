//! Between the number formats of storage: bf16 from f32, rounded to nearest even, and back.
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
