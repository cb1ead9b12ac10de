//! Launches of `kernels/activation.cu`.

use half::bf16;

use crate::device::cuda::kernels::activation::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// `y = gelu(x)`, which may be in place.
///
/// # Panics
/// If the lengths differ.
pub fn gelu(gpu: &Gpu, y: View<bf16>, x: View<bf16>) -> Result<()> {
    assert_eq!(y.len(), x.len(), "gelu");
    let (len, width) = (x.len(), if y.is_aligned(16) && x.is_aligned(16) { 8 } else { 1 });
    if len == 0 {
        return Ok(());
    }
    let at = Launch::new(len.div_ceil(THREADS * width), THREADS as u32);
    kernels::ActivationGelu { y, x, len: len as u64 }.launch(gpu, at, width)
}
