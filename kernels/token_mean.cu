// The mean of the patch tokens of images, and its gradient.
//
//   forward    y [N, D] = share * sum over t >= 1 of x [N, T, D], bf16, summed in f32 in the order of the tokens
//   backward   dx [N, T, D] = share * dy [N, D], 0 for t = 0
//
// Aligned  `x8`: D a multiple of 8, pointers 16 bytes; `x1`: nothing.
// Bytes    2 per value of x.  Bound: memory. A thread per 8 columns of an image.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 128;

// Grid (columns, images).
template <int N> DEVICE void mean(bf16 *y, const bf16 *x, uint32_t tokens, uint32_t d, float share) {
    const uint32_t column = (blockIdx.x * THREADS + threadIdx.x) * N;
    if (column >= d) return;
    x += uint64_t(blockIdx.y) * tokens * d + column;
    float sum[N] = {};
#pragma unroll 4
    for (uint32_t t = 1; t < tokens; t++) {
        float value[N];
        load(x + uint64_t(t) * d, value);
#pragma unroll
        for (int j = 0; j < N; j++) sum[j] += value[j];
    }
#pragma unroll
    for (int j = 0; j < N; j++) sum[j] *= share;
    store(y + uint64_t(blockIdx.y) * d + column, sum);
}

// Grid (columns, images).
template <int N> DEVICE void spread(bf16 *dx, const bf16 *dy, uint32_t tokens, uint32_t d, float share) {
    const uint32_t column = (blockIdx.x * THREADS + threadIdx.x) * N;
    if (column >= d) return;
    dx += uint64_t(blockIdx.y) * tokens * d + column;
    float value[N];
    const float none[N] = {};
    load(dy + uint64_t(blockIdx.y) * d + column, value);
#pragma unroll
    for (int j = 0; j < N; j++) value[j] *= share;
    store(dx, none);
#pragma unroll 4
    for (uint32_t t = 1; t < tokens; t++) store(dx + uint64_t(t) * d, value);
}

}  // namespace

#define TOKEN_MEAN(NAME, N)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        token_mean_forward_##NAME(bf16 *y, const bf16 *x, uint32_t tokens, uint32_t d, float share) {                  \
        mean<N>(y, x, tokens, d, share);                                                                               \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        token_mean_backward_##NAME(bf16 *dx, const bf16 *dy, uint32_t tokens, uint32_t d, float share) {               \
        spread<N>(dx, dy, tokens, d, share);                                                                           \
    }
TOKEN_MEAN(x8_bf16, 8)
TOKEN_MEAN(x1_bf16, 1)

EXPORT(THREADS, THREADS)
