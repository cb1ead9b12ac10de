//! Launches of `kernels/convert.cu`.

use half::bf16;

use crate::device::cuda::kernels::convert::THREADS;
use crate::device::cuda::{Gpu, Half, Launch, View, kernels};
use crate::error::Result;

/// Values per thread.
fn width(aligned: bool) -> usize {
    if aligned { 8 } else { 1 }
}

fn plan(len: usize, width: usize) -> Launch {
    Launch::new(len.div_ceil(THREADS * width), THREADS as u32)
}

/// As [`super::to_bf16`].
///
/// # Panics
/// If the lengths differ.
pub fn to_bf16(gpu: &Gpu, y: View<bf16>, x: View<f32>) -> Result<()> {
    assert_eq!(y.len(), x.len(), "convert");
    let (width, len) = (width(y.is_aligned(16) && x.is_aligned(16)), x.len());
    if len == 0 {
        return Ok(());
    }
    kernels::ConvertBf16 { y, x, len: len as u64 }.launch(gpu, plan(len, width), width)
}

/// `y = x`, exactly.
///
/// # Panics
/// If the lengths differ.
pub fn to_f32(gpu: &Gpu, y: View<f32>, x: View<bf16>) -> Result<()> {
    assert_eq!(y.len(), x.len(), "convert");
    let (width, len) = (width(y.is_aligned(16) && x.is_aligned(16)), x.len());
    if len == 0 {
        return Ok(());
    }
    kernels::ConvertWidened { wide: y, narrow: x, len: len as u64 }.launch(gpu, plan(len, width), width)
}

/// `y = x·factor`, rounded to nearest: latents on their way into the decoder or the UNet.
///
/// # Panics
/// If the lengths differ.
pub fn scaled<T: Half>(gpu: &Gpu, y: View<T>, x: View<f32>, factor: f32) -> Result<()> {
    assert_eq!(y.len(), x.len(), "convert");
    let (width, len) = (width(y.is_aligned(16) && x.is_aligned(16)), x.len());
    if len == 0 {
        return Ok(());
    }
    kernels::ConvertScaled { y, x, factor, len: len as u64 }.launch(gpu, plan(len, width), width)
}
