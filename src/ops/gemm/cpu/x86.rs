//! Kernels for AVX-512, and for AVX2 with fused multiply-adds.

use std::arch::x86_64::*;

use super::kernel::{Kernels, ROWS_AT_MOST, Tile, Transpose, each, kernels, micro, opaque};
use super::pair::Pair;

fn prefetch<T>(at: *const T) {
    // SAFETY: a hint, which reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

micro!(
    #[target_feature(enable = "avx512f")]
    avx512_f32: f32, 16, prefetch,
    sums: f32, __m512, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
    operands: _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps
);
micro!(
    #[target_feature(enable = "avx512f")]
    avx512_f64: f64, 8, prefetch,
    sums: f64, __m512d, _mm512_setzero_pd(), _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd,
    operands: _mm512_setzero_pd(), _mm512_loadu_pd, _mm512_set1_pd, _mm512_fmadd_pd
);
micro!(
    #[target_feature(enable = "avx2,fma")]
    avx2_f32: f32, 8, prefetch,
    sums: f32, __m256, _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps,
    operands: _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps
);
micro!(
    #[target_feature(enable = "avx2,fma")]
    avx2_f64: f64, 4, prefetch,
    sums: f64, __m256d, _mm256_setzero_pd(), _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd,
    operands: _mm256_setzero_pd(), _mm256_loadu_pd, _mm256_set1_pd, _mm256_fmadd_pd
);

/// Pairs as the instruction takes them.
#[target_feature(enable = "avx512f")]
unsafe fn pairs(at: *const Pair) -> __m512bh {
    // SAFETY: the kernel's caller promises the addresses; both types are 512 bits of anything.
    unsafe { std::mem::transmute(_mm512_loadu_si512(at.cast())) }
}

/// One pair, in all lanes.
#[target_feature(enable = "avx512f")]
unsafe fn spread_pair(pair: Pair) -> __m512bh {
    // SAFETY: both types are 512 bits of anything.
    unsafe { std::mem::transmute(_mm512_set1_epi32(pair.bits())) }
}

micro!(
    #[target_feature(enable = "avx512f,avx512bf16")]
    avx512_bf16: Pair, 16, prefetch,
    sums: f32, __m512, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
    operands: spread_pair(Pair::default()), pairs, spread_pair, |a, b, sum| _mm512_dpbf16_ps(sum, a, b)
);

// Without the instruction: two values are two multiply-adds in f32, the second one's first, as the instruction does.
micro!(
    #[target_feature(enable = "avx512f")]
    avx512_widened: Pair, 16, prefetch,
    sums: f32, __m512, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
    operands: [_mm512_setzero_ps(); 2],
    |at: *const Pair| {
        let pairs = _mm512_loadu_si512(at.cast());
        let upper = _mm512_and_si512(pairs, _mm512_set1_epi32(!0xffff));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(upper)]
    },
    |pair: Pair| pair.widened().map(|value| _mm512_set1_ps(value)),
    |a: [__m512; 2], b: [__m512; 2], sum| _mm512_fmadd_ps(a[0], b[0], _mm512_fmadd_ps(a[1], b[1], sum))
);
micro!(
    #[target_feature(enable = "avx2,fma")]
    avx2_widened: Pair, 8, prefetch,
    sums: f32, __m256, _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps,
    operands: [_mm256_setzero_ps(); 2],
    |at: *const Pair| {
        let pairs = _mm256_loadu_si256(at.cast());
        let upper = _mm256_and_si256(pairs, _mm256_set1_epi32(!0xffff));
        [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(upper)]
    },
    |pair: Pair| pair.widened().map(|value| _mm256_set1_ps(value)),
    |a: [__m256; 2], b: [__m256; 2], sum| _mm256_fmadd_ps(a[0], b[0], _mm256_fmadd_ps(a[1], b[1], sum))
);

/// Eight rows of eight values: pairs, then fours, then halves change places.
#[target_feature(enable = "avx2")]
unsafe fn transpose_8((to, to_row): (*mut f32, usize), (from, from_row): (*const f32, usize)) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [_mm256_setzero_ps(); 8];
        each!(i in 8 => {
            rows[i] = _mm256_loadu_ps(from.add(i * from_row));
        });
        let mut twos = rows;
        each!(i in 4 => {
            twos[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            twos[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        });
        let mut fours = twos;
        each!(i in 2 => {
            fours[4 * i] = _mm256_shuffle_ps::<0x44>(twos[4 * i], twos[4 * i + 2]);
            fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(twos[4 * i], twos[4 * i + 2]);
            fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(twos[4 * i + 1], twos[4 * i + 3]);
            fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(twos[4 * i + 1], twos[4 * i + 3]);
        });
        each!(i in 4 => {
            _mm256_storeu_ps(to.add(i * to_row), _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]));
            _mm256_storeu_ps(to.add((i + 4) * to_row), _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]));
        });
    }
}

/// The same of pairs, which are as wide; nothing looks at what the bits mean.
#[target_feature(enable = "avx2")]
unsafe fn transpose_8_pairs((to, to_row): (*mut Pair, usize), (from, from_row): (*const Pair, usize)) {
    // SAFETY: the caller's promise.
    unsafe { transpose_8((to.cast(), to_row), (from.cast(), from_row)) }
}

const EIGHT: Transpose<f32> = Transpose { side: 8, run: transpose_8 };
pub(super) const EIGHT_PAIRS: Transpose<Pair> = Transpose { side: 8, run: transpose_8_pairs };

// Of 32 registers 27 hold sums; of AVX2's 16, 12.
pub(super) const AVX512_F32: Kernels<f32> = Kernels {
    name: "AVX-512",
    lanes: 16,
    run: kernels!(avx512_f32: [1, 2, 3] by [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    adjacent: false,
    transpose: Some(EIGHT),
};
pub(super) const AVX512_F64: Kernels<f64> = Kernels {
    name: "AVX-512",
    lanes: 8,
    run: kernels!(avx512_f64: [1, 2, 3] by [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    adjacent: false,
    transpose: None,
};
pub(super) const AVX2_F32: Kernels<f32> = Kernels {
    name: "AVX2",
    lanes: 8,
    run: kernels!(avx2_f32: [1, 2] by [1, 2, 3, 4, 5, 6]),
    adjacent: false,
    transpose: Some(EIGHT),
};
pub(super) const AVX2_F64: Kernels<f64> = Kernels {
    name: "AVX2",
    lanes: 4,
    run: kernels!(avx2_f64: [1, 2] by [1, 2, 3, 4, 5, 6]),
    adjacent: false,
    transpose: None,
};

pub(super) const AVX512_BF16: Kernels<Pair, f32> = Kernels {
    name: "AVX-512 BF16",
    lanes: 16,
    run: kernels!(avx512_bf16: [1, 2, 3] by [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    adjacent: false,
    transpose: Some(EIGHT_PAIRS),
};
// Operands take two registers each.
pub(super) const AVX512_PAIRS: Kernels<Pair, f32> = Kernels {
    name: "AVX-512",
    lanes: 16,
    run: kernels!(avx512_widened: [1, 2, 3] by [1, 2, 3, 4, 5, 6, 7]),
    adjacent: false,
    transpose: Some(EIGHT_PAIRS),
};
pub(super) const AVX2_PAIRS: Kernels<Pair, f32> = Kernels {
    name: "AVX2",
    lanes: 8,
    run: kernels!(avx2_widened: [1, 2] by [1, 2, 3, 4]),
    adjacent: false,
    transpose: Some(EIGHT_PAIRS),
};

/// Whether this processor has AVX-512's.
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && has_avx2()
}

/// Whether it has AVX2's and its multiply-adds.
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Whether it multiplies pairs of bf16.
pub(super) fn has_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

/// Whether vectors of these do so faster than those of f32: AMD's do twice as much; Intel's, whose bf16 is in the tiles
/// of AMX, half.
pub(super) fn has_fast_bf16() -> bool {
    let vendor = __cpuid(0);
    has_bf16() && [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}
