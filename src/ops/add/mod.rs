//! `y += x`: where two losses meet in one gradient.
//!
//! FLOPs: 1 per value. Bytes: 12 per value.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

/// Values per task.
const VALUES: usize = 1 << 14;

/// `y += x`.
pub fn forward(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "add: y and x");
    y.par_chunks_mut(VALUES).zip(x.par_chunks(VALUES)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
}
