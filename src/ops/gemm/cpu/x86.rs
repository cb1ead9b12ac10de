//! Kernels for AVX-512, and for AVX2 with fused multiply-adds.

use std::arch::x86_64::*;

use super::kernel::{Kernels, ROWS_AT_MOST, Tile, each, kernels, micro, opaque};

fn prefetch<T>(at: *const T) {
    // SAFETY: a hint, which reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

micro!(
    #[target_feature(enable = "avx512f")]
    avx512_f32: f32, __m512, 16, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
    prefetch
);
micro!(
    #[target_feature(enable = "avx512f")]
    avx512_f64: f64, __m512d, 8, _mm512_setzero_pd(), _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd,
    prefetch
);
micro!(
    #[target_feature(enable = "avx2,fma")]
    avx2_f32: f32, __m256, 8, _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps,
    prefetch
);
micro!(
    #[target_feature(enable = "avx2,fma")]
    avx2_f64: f64, __m256d, 4, _mm256_setzero_pd(), _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd,
    prefetch
);

// Of 32 registers 27 hold sums; of AVX2's 16, 12.
pub(super) const AVX512_F32: Kernels<f32> =
    Kernels { name: "AVX-512", lanes: 16, run: kernels!(avx512_f32: [1, 2, 3] by [1, 2, 3, 4, 5, 6, 7, 8, 9]) };
pub(super) const AVX512_F64: Kernels<f64> =
    Kernels { name: "AVX-512", lanes: 8, run: kernels!(avx512_f64: [1, 2, 3] by [1, 2, 3, 4, 5, 6, 7, 8, 9]) };
pub(super) const AVX2_F32: Kernels<f32> =
    Kernels { name: "AVX2", lanes: 8, run: kernels!(avx2_f32: [1, 2] by [1, 2, 3, 4, 5, 6]) };
pub(super) const AVX2_F64: Kernels<f64> =
    Kernels { name: "AVX2", lanes: 4, run: kernels!(avx2_f64: [1, 2] by [1, 2, 3, 4, 5, 6]) };

/// Whether this processor has AVX-512's, and AVX2's and its multiply-adds.
pub(super) fn has() -> [bool; 2] {
    [is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")]
}
