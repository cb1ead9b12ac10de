// The largest of every 2x2 pixels of maps, stride 2, and the gradient of it. Of equal ones the first in reading order
// is taken; what is no number is larger than any.
//
//   forward    y [N, S/2, S/2, C] of x [N, S, S, C], bf16; the last row and column of an odd S are not looked at
//   backward   dx [N, S, S, C]: dy where x was taken, 0 elsewhere
//
// Aligned  `x8`: C a multiple of 8, pointers 16 bytes; `x1`: nothing.
// Bytes    per value of x: forward 2.5, backward 4.5.
// Bound    memory. A warp per window, a thread per 8 channels of it.
#include "common/maps.cuh"

namespace {

/// Grid (lines of all results, pieces of a line).
template <int N> DEVICE void forward(bf16 *y, const bf16 *x, uint32_t side, uint32_t c) {
    const uint32_t half = side / 2;
    x += (uint64_t(blockIdx.x / half) * side + blockIdx.x % half * 2) * side * c;
    const Pixels pixels(half);
    for (uint32_t at = pixels.first; at < pixels.end; at += WARPS) {
        const bf16 *corner = x + uint64_t(2 * at) * c;
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float top[N];
            load(corner + channel, top);
#pragma unroll
            for (uint32_t k = 1; k < 4; k++) {
                float value[N];
                load(corner + (k / 2 * side + k % 2) * uint64_t(c) + channel, value);
#pragma unroll
                for (int j = 0; j < N; j++) top[j] = value[j] > top[j] || isnan(value[j]) ? value[j] : top[j];
            }
            store(y + (uint64_t(blockIdx.x) * half + at) * c + channel, top);
        }
    }
}

/// Grid (lines of windows of all maps, those cut off among them; pieces of a line).
template <int N> DEVICE void backward(bf16 *dx, const bf16 *dy, const bf16 *x, uint32_t side, uint32_t c) {
    const uint32_t half = side / 2, windows = ceil_div(side, 2u);
    const uint32_t image = blockIdx.x / windows, row = blockIdx.x % windows;
    const uint64_t corner_row = (uint64_t(image) * side + row * 2) * side;
    const Pixels pixels(windows);
    for (uint32_t at = pixels.first; at < pixels.end; at += WARPS) {
        const uint64_t corner = corner_row + 2 * at;
        const bool whole = row < half && at < half;
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float gradient[N] = {}, top[N] = {};
            uint32_t first[N] = {};
            if (whole) {
                load(dy + ((uint64_t(image) * half + row) * half + at) * c + channel, gradient);
                load(x + corner * c + channel, top);
#pragma unroll
                for (uint32_t k = 1; k < 4; k++) {
                    float value[N];
                    load(x + (corner + k / 2 * side + k % 2) * c + channel, value);
#pragma unroll
                    for (int j = 0; j < N; j++) {
                        if (value[j] > top[j] || isnan(value[j])) top[j] = value[j], first[j] = k;
                    }
                }
            }
#pragma unroll
            for (uint32_t k = 0; k < 4; k++) {
                if (row * 2 + k / 2 >= side || at * 2 + k % 2 >= side) continue;
                float value[N];
#pragma unroll
                for (int j = 0; j < N; j++) value[j] = first[j] == k ? gradient[j] : 0.f;
                store(dx + (corner + k / 2 * side + k % 2) * c + channel, value);
            }
        }
    }
}

}  // namespace

#define MAX_POOL(NAME, N)                                                                                              \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        max_pool_forward_##NAME(bf16 *y, const bf16 *x, uint32_t side, uint32_t c) {                                   \
        forward<N>(y, x, side, c);                                                                                     \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        max_pool_backward_##NAME(bf16 *dx, const bf16 *dy, const bf16 *x, uint32_t side, uint32_t c) {                 \
        backward<N>(dx, dy, x, side, c);                                                                               \
    }
MAX_POOL(x8_bf16, 8)
MAX_POOL(x1_bf16, 1)
