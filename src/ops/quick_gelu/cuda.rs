//! Launches of `kernels/quick_gelu.cu`.

use half::bf16;

use crate::device::cuda::kernels::quick_gelu::VALUES;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// Threads per block.
const THREADS: usize = 256;

fn plan(len: usize, x: View<bf16>, y: View<bf16>) -> Launch {
    assert!(x.len() == len && y.len() == len && len.is_multiple_of(VALUES), "quick gelu: {len} values, by {VALUES}");
    assert!(x.is_aligned(16) && y.is_aligned(16), "quick gelu: addresses");
    Launch::new((len / VALUES).div_ceil(THREADS), THREADS as u32)
}

/// `y = x·sigmoid(1.702·x)`.
///
/// # Panics
/// If the lengths differ or are no multiples of 8, or an address is none of 16 bytes.
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>) -> Result<()> {
    let len = x.len();
    kernels::QuickGeluForward { y, x, len: len as u64 }.launch(gpu, plan(len, x, y))
}

/// `dx`, the gradient of the output, becomes that of the input `x`.
///
/// # Panics
/// As [`forward`].
pub fn backward_in_place(gpu: &Gpu, dx: View<bf16>, x: View<bf16>) -> Result<()> {
    let len = x.len();
    kernels::QuickGeluBackward { dx, x, len: len as u64 }.launch(gpu, plan(len, x, dx))
}
