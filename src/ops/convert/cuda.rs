//! Launches of `kernels/convert.cu`.

use half::bf16;

use crate::device::cuda::{Gpu, Half, Launch, View, by_type, kernels};
use crate::error::Result;

const THREADS: usize = 256;

/// One thread per 8 values, or per value where an address does not allow vectors.
fn plan(len: usize, aligned: bool) -> Launch {
    Launch::new(len.div_ceil(THREADS * if aligned { 8 } else { 1 }), THREADS as u32)
}

/// As [`super::to_bf16`].
///
/// # Panics
/// If the lengths differ.
pub fn to_bf16(gpu: &Gpu, y: View<bf16>, x: View<f32>) -> Result<()> {
    assert_eq!(y.len(), x.len(), "convert");
    let (aligned, len) = (y.is_aligned(16) && x.is_aligned(16), x.len());
    match (len, aligned) {
        (0, _) => Ok(()),
        (_, true) => kernels::convert_bf16_x8(gpu, plan(len, true), y, x, len as u64),
        (_, false) => kernels::convert_bf16_x1(gpu, plan(len, false), y, x, len as u64),
    }
}

/// `y = x·factor`, rounded to nearest: latents on their way into the decoder or the UNet.
///
/// # Panics
/// If the lengths differ.
pub fn scaled<T: Half>(gpu: &Gpu, y: View<T>, x: View<f32>, factor: f32) -> Result<()> {
    assert_eq!(y.len(), x.len(), "convert");
    let (aligned, len) = (y.is_aligned(16) && x.is_aligned(16), x.len());
    let at = plan(len, aligned);
    let count = len as u64;
    match (len, aligned) {
        (0, _) => Ok(()),
        (_, true) => by_type!(T, convert_scaled_x8_f16 | convert_scaled_x8_bf16, (gpu, at, y, x, factor, count)),
        (_, false) => by_type!(T, convert_scaled_x1_f16 | convert_scaled_x1_bf16, (gpu, at, y, x, factor, count)),
    }
}
