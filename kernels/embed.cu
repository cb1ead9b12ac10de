// Text embedding: y[n, t] = token[ids[n, t]] + position[t].
//
//   y [N, T, D], token [vocabulary, D], position [T, D] f16 or bf16, the sum in f32; ids [N, T] u32, which the host has
//   checked.
// Aligned  D a multiple of 8; y, token, position 16 bytes.
//
// FLOPs    1 per value.  Bytes: 4 per value (positions come from L2).  Bound: launch and latency; one thread per 8
//          values.
#include "common/types.cuh"

namespace {

constexpr uint32_t THREADS = 256;

template <typename T>
DEVICE void text(T *y, const uint32_t *ids, const T *token, const T *position, uint32_t texts, uint32_t tokens, uint32_t d) {
    const uint32_t vectors = d / 8, i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= texts * tokens * vectors) return;
    const uint32_t row = i / vectors, c = 8 * (i % vectors);
    float a[8], b[8];
    load(token + uint64_t(ids[row]) * d + c, a);
    load(position + row % tokens * d + c, b);
#pragma unroll
    for (int j = 0; j < 8; j++) a[j] += b[j];
    store(y + uint64_t(row) * d + c, a);
}

}  // namespace

#define TEXT(T)                                                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                                                  \
        embed_text_##T(T *y, const uint32_t *ids, const T *token, const T *position, uint32_t texts, uint32_t tokens, uint32_t d) {        \
        text(y, ids, token, position, texts, tokens, d);                                                                                   \
    }
TEXT(f16)
TEXT(bf16)

EXPORT(THREADS, THREADS)
