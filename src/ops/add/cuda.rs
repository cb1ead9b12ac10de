//! Launches of `kernels/add.cu`.

use half::bf16;

use crate::device::cuda::kernels::add::{THREADS, VALUES};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// `y += x`, rounded once.
///
/// # Panics
/// If the lengths differ or are no multiples of 8, or an address is none of 16 bytes.
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>) -> Result<()> {
    let len = y.len();
    assert!(x.len() == len && len > 0 && len.is_multiple_of(VALUES), "add: {len} values, by {VALUES}");
    assert!(x.is_aligned(16) && y.is_aligned(16), "add: addresses");
    let at = Launch::new((len / VALUES).div_ceil(THREADS), THREADS as u32);
    kernels::AddForward { y, x, len: len as u64 }.launch(gpu, at)
}
