// Means of a grid of B x B windows of maps, which may share pixels, and the gradient of it: on either axis bin i has
// the pixels floor(i*S/B) ... ceil((i + 1)*S/B) - 1.
//
//   forward    y [N, B, B, C] of x [N, S, S, C], bf16, summed in f32
//   backward   dx [N, S, S, C] += dy of the bins that have a pixel, over their numbers of pixels, in the order of bins
//
// Aligned  `x8`: C a multiple of 8, pointers 16 bytes; `x1`: nothing.
// Order    forward: pixels dealt to warps, in order; warps added in order.
// Bytes    forward: x and y; backward: dx twice, dy from L2.
// Bound    memory; latency for the few bins of a pyramid. Forward: a block per bin and 32 vectors; backward: a warp per
//          pixel, a thread per 8 channels of it.
#include "common/columns.cuh"
#include "common/maps.cuh"

namespace {

/// A run of places.
struct Run {
    uint32_t first, end;

    DEVICE uint32_t count() const { return end - first; }
};

/// The pixels of a bin; and, sizes exchanged, the bins of a pixel.
DEVICE Run run_of(uint32_t bin, uint32_t side, uint32_t bins) {
    return {bin * side / bins, ceil_div((bin + 1) * side, bins)};
}

// Grid (bins of all maps, pieces of 32 vectors).
template <int N> DEVICE void forward(bf16 *y, const bf16 *x, uint32_t side, uint32_t bins, uint32_t c) {
    __shared__ float shared[WARPS][32 * N];
    const uint32_t bin = blockIdx.x % (bins * bins), channel = (blockIdx.y * 32 + lane_id()) * N;
    const Run rows = run_of(bin / bins, side, bins), columns = run_of(bin % bins, side, bins);
    const uint32_t count = rows.count() * columns.count();
    x += uint64_t(blockIdx.x / (bins * bins)) * side * side * c + channel;
    float sum[N] = {};
    if (channel < c) {
#pragma unroll 4
        for (uint32_t i = warp_id(); i < count; i += WARPS) {
            const uint32_t row = rows.first + i / columns.count(), column = columns.first + i % columns.count();
            float value[N];
            load(x + (uint64_t(row) * side + column) * c, value);
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] += value[j];
        }
    }
    add_warps(sum, shared);
    if (warp_id() != 0 || channel >= c) return;
    const float share = 1.f / float(count);
#pragma unroll
    for (int j = 0; j < N; j++) sum[j] *= share;
    store(y + uint64_t(blockIdx.x) * c + channel, sum);
}

// Grid (lines of all maps, pieces of a line).
template <int N> DEVICE void backward(bf16 *dx, const bf16 *dy, uint32_t side, uint32_t bins, uint32_t c) {
    const Run rows = run_of(blockIdx.x % side, bins, side);
    dy += uint64_t(blockIdx.x / side) * bins * bins * c;
    const Pixels pixels(side);
    for (uint32_t pixel = pixels.first; pixel < pixels.end; pixel += WARPS) {
        const Run columns = run_of(pixel, bins, side);
        bf16 *out = dx + (uint64_t(blockIdx.x) * side + pixel) * c;
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float sum[N];
            load(out + channel, sum);
            for (uint32_t row = rows.first; row < rows.end; row++) {
                const uint32_t height = run_of(row, side, bins).count();
                for (uint32_t column = columns.first; column < columns.end; column++) {
                    const float share = 1.f / float(height * run_of(column, side, bins).count());
                    float value[N];
                    load(dy + (uint64_t(row) * bins + column) * c + channel, value);
#pragma unroll
                    for (int j = 0; j < N; j++) sum[j] = fmaf(share, value[j], sum[j]);
                }
            }
            store(out + channel, sum);
        }
    }
}

}  // namespace

#define GRID_POOL(NAME, N)                                                                                             \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        grid_pool_forward_##NAME(bf16 *y, const bf16 *x, uint32_t side, uint32_t bins, uint32_t c) {                   \
        forward<N>(y, x, side, bins, c);                                                                               \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 4)                                                        \
        grid_pool_backward_##NAME(bf16 *dx, const bf16 *dy, uint32_t side, uint32_t bins, uint32_t c) {                \
        backward<N>(dx, dy, side, bins, c);                                                                            \
    }
GRID_POOL(x8_bf16, 8)
GRID_POOL(x1_bf16, 1)
