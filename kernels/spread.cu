// Rows of 2x2 pixels to maps of twice the side: what of a transposed convolution 2x2 of stride 2 is behind its product.
//
//   forward    y [N, 2S, 2S, C] of x [N*S^2, 2, 2, C] (row, column, channel), plus bias [C] f32 (null: none)
//   backward   dx from dy; partials [K, C] f32 (null: none): sums of dy over every 256 pixels
//
// Aligned  `x8`: C a multiple of 8, pointers 16 bytes; `x1`: nothing.
// Order    of the sums: pixels dealt to warps, in order; warps added in order.
// Bytes    4 per value either way.
// Bound    memory. Forward: a warp per pixel, a thread per 8 channels of it. Backward: a thread keeps the sums of its 8
//          channels over its warp's pixels.
#include "common/columns.cuh"
#include "common/maps.cuh"

namespace {

/// Pixels of dy that a block adds up.
constexpr uint32_t CHUNK = 256;

/// Where in x the values of a pixel of y begin; lines are counted over all maps.
DEVICE uint64_t place(uint32_t line, uint32_t column, uint32_t side, uint32_t c) {
    return ((uint64_t(line / 2) * side + column / 2) * 4 + line % 2 * 2 + column % 2) * c;
}

// Grid (lines of all results, pieces of a line).
template <int N> DEVICE void forward(bf16 *y, const bf16 *x, const float *bias, uint32_t side, uint32_t c) {
    const uint32_t line = blockIdx.x;
    const Pixels pixels(2 * side);
    for (uint32_t column = pixels.first; column < pixels.end; column += WARPS) {
        const bf16 *from = x + place(line, column, side, c);
        bf16 *to = y + (uint64_t(line) * 2 * side + column) * c;
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float value[N];
            load(from + channel, value);
            if (bias != nullptr) {
                float shift[N];
                load(bias + channel, shift);
#pragma unroll
                for (int j = 0; j < N; j++) value[j] += shift[j];
            }
            store(to + channel, value);
        }
    }
}

// Grid (chunks of the pixels of dy, pieces of 32 vectors).
template <int N>
DEVICE void backward(bf16 *dx, float *partials, const bf16 *dy, uint32_t pixels, uint32_t side, uint32_t c) {
    __shared__ float shared[WARPS][32 * N];
    const uint32_t channel = (blockIdx.y * 32 + lane_id()) * N, start = blockIdx.x * CHUNK;
    const uint32_t end = channel < c ? min(start + CHUNK, pixels) : start;
    float sum[N] = {};
#pragma unroll 4
    for (uint32_t pixel = start + warp_id(); pixel < end; pixel += WARPS) {
        float value[N];
        load(dy + uint64_t(pixel) * c + channel, value);
        store(dx + place(pixel / (2 * side), pixel % (2 * side), side, c) + channel, value);
#pragma unroll
        for (int j = 0; j < N; j++) sum[j] += value[j];
    }
    if (partials == nullptr) return;
    add_warps(sum, shared);
    if (warp_id() == 0 && channel < c) store(partials + uint64_t(blockIdx.x) * c + channel, sum);
}

}  // namespace

#define SPREAD(NAME, N)                                                                                                \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        spread_forward_##NAME(bf16 *y, const bf16 *x, const float *OR_NULL bias, uint32_t side, uint32_t c) {          \
        forward<N>(y, x, bias, side, c);                                                                               \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        spread_backward_##NAME(bf16 *dx, float *OR_NULL partials, const bf16 *dy, uint32_t pixels, uint32_t side,      \
                               uint32_t c) {                                                                           \
        backward<N>(dx, partials, dy, pixels, side, c);                                                                \
    }
SPREAD(x8_bf16, 8)
SPREAD(x1_bf16, 1)

EXPORT(CHUNK, CHUNK)
