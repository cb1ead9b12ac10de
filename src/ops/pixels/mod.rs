//! Decoder output to 8-bit RGB.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use super::simd::vectorize;

/// `⌊clamp((x + 1)/2, 0, 1)·255⌋`: truncated as the paper's generator does, not rounded. NaN becomes 0.
pub fn to_u8(out: &mut [u8], x: &[f32]) {
    assert_eq!(out.len(), x.len(), "pixels");
    vectorize(
        #[inline(always)]
        || {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = (((x + 1.0) * 0.5).clamp(0.0, 1.0) * 255.0) as u8;
            }
        },
    );
}
