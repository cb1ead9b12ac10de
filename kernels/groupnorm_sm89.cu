// The last step of group norms for the layers that read e4m3, on sm_89 and newer: groupnorm.cu's apply, y =
// e4m3(inverse·silu(a·x + b)), rounded once, from f32; ±448 at most. Sources, tables, blocks and alignments are as
// there; y is aligned to 8 bytes.
//
// Bytes per value 3 (4 into 16 bits): bound by memory; with SiLU 2 special results per value, 0.7 of the time that
// memory takes.
#include "common/e4m3.cuh"
#include "common/groupnorm.cuh"

#define APPLY(NAME, T, SILU)                                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
        groupnorm_e4m3_##NAME##_##T(e4m3 *y, float inverse, const T *a, uint32_t rows_a, uint32_t channels_a,          \
                                    const T *OR_NULL b,                                                                \
                                    uint32_t rows_b, uint32_t channels_b, const float *table, uint32_t pixels) {       \
        apply<T, SILU>(y, a, rows_a, channels_a, b, rows_b, channels_b, table, pixels, inverse);                       \
    }
APPLY(apply, f16, false)
APPLY(apply, bf16, false)
APPLY(silu, f16, true)
APPLY(silu, bf16, true)
