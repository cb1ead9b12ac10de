// The 3x3 neighbourhood of every pixel of a map, and the gradient of it.
//
//   forward    y [N*S^2, 9, C] of x [N, S, S, C]: pixel (row + t/3 - 1, column + t%3 - 1) for t = 0 ... 8, zeros beyond
//              the border
//   backward   dx [N, S, S, C] = the sum over t of dy at pixel (row + 1 - t/3, column + 1 - t%3), place t, in f32
//
// Aligned  `x8`: C a multiple of 8, pointers 16 bytes; `x1`: nothing.
// Bytes    20 per value of the map either way; the ninefold reading of x comes from L1 and L2.
// Bound    memory. A warp per pixel, a thread per 8 channels of it with all nine reads in flight.
#include "common/maps.cuh"

namespace {

constexpr uint32_t TAPS = 9;

/// The pixel at `row` and `column` of a line's image; rows and columns before the first are large.
DEVICE uint64_t pixel(uint32_t line, uint32_t row, uint32_t column, uint32_t side) {
    return (uint64_t(line / side) * side + row) * side + column;
}

template <int N> DEVICE void forward(bf16 *y, const bf16 *x, uint32_t side, uint32_t c) {
    const uint32_t line = blockIdx.x, row = line % side;
    const Pixels pixels(side);
    for (uint32_t column = pixels.first; column < pixels.end; column += WARPS) {
        bf16 *to = y + (uint64_t(line) * side + column) * TAPS * c;
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float value[TAPS][N] = {};
#pragma unroll
            for (uint32_t t = 0; t < TAPS; t++) {
                const uint32_t from_row = row + t / 3 - 1, from_column = column + t % 3 - 1;
                if (from_row < side && from_column < side) {
                    load(x + pixel(line, from_row, from_column, side) * c + channel, value[t]);
                }
            }
#pragma unroll
            for (uint32_t t = 0; t < TAPS; t++) store(to + t * c + channel, value[t]);
        }
    }
}

template <int N> DEVICE void backward(bf16 *dx, const bf16 *dy, uint32_t side, uint32_t c) {
    const uint32_t line = blockIdx.x, row = line % side;
    const Pixels pixels(side);
    for (uint32_t column = pixels.first; column < pixels.end; column += WARPS) {
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float value[TAPS][N] = {}, sum[N] = {};
#pragma unroll
            for (uint32_t t = 0; t < TAPS; t++) {
                const uint32_t to_row = row + 1 - t / 3, to_column = column + 1 - t % 3;
                if (to_row < side && to_column < side) {
                    load(dy + (pixel(line, to_row, to_column, side) * TAPS + t) * c + channel, value[t]);
                }
            }
#pragma unroll
            for (uint32_t t = 0; t < TAPS; t++) {
#pragma unroll
                for (int j = 0; j < N; j++) sum[j] += value[t][j];
            }
            store(dx + (uint64_t(line) * side + column) * c + channel, sum);
        }
    }
}

}  // namespace

// Grid (lines of all maps, pieces of a line).
#define NEIGHBOURHOOD(NAME, N)                                                                                         \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        neighbourhood_forward_##NAME(bf16 *y, const bf16 *x, uint32_t side, uint32_t c) {                              \
        forward<N>(y, x, side, c);                                                                                     \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        neighbourhood_backward_##NAME(bf16 *dx, const bf16 *dy, uint32_t side, uint32_t c) {                           \
        backward<N>(dx, dy, side, c);                                                                                  \
    }
NEIGHBOURHOOD(x8_bf16, 8)
NEIGHBOURHOOD(x1_bf16, 1)
