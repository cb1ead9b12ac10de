//! Launches of `kernels/activation.cu`.

use half::bf16;

use crate::device::cuda::kernels::activation::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// A launch over the values of `x`, and how many of them a thread takes.
fn plan(y: View<bf16>, x: View<bf16>) -> (Launch, usize) {
    assert_eq!(y.len(), x.len(), "activation");
    let width = if y.is_aligned(16) && x.is_aligned(16) { 8 } else { 1 };
    (Launch::new(x.len().div_ceil(THREADS * width), THREADS as u32), width)
}

fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>, kernel: fn(usize) -> kernels::ActivationKernel) -> Result<()> {
    let (at, width) = plan(y, x);
    if x.is_empty() {
        return Ok(());
    }
    kernels::Activation { y, x, len: x.len() as u64 }.launch(gpu, at, kernel(width))
}

/// `y = gelu(x)`, which may be in place.
///
/// # Panics
/// If the lengths differ.
pub fn gelu(gpu: &Gpu, y: View<bf16>, x: View<bf16>) -> Result<()> {
    forward(gpu, y, x, kernels::ActivationKernel::GeluX)
}

/// `y = x·sigmoid(1.702·x)`, which may be in place.
///
/// # Panics
/// If the lengths differ.
pub fn quick_gelu(gpu: &Gpu, y: View<bf16>, x: View<bf16>) -> Result<()> {
    forward(gpu, y, x, kernels::ActivationKernel::QuickGeluX)
}

/// `dx`, the gradient of [`quick_gelu`]'s output, becomes that of its input `x`.
///
/// # Panics
/// If the lengths differ.
pub fn quick_gelu_backward(gpu: &Gpu, dx: View<bf16>, x: View<bf16>) -> Result<()> {
    let (at, width) = plan(dx, x);
    if x.is_empty() {
        return Ok(());
    }
    kernels::ActivationQuickGeluBackward { dx, x, len: x.len() as u64 }.launch(gpu, at, width)
}
