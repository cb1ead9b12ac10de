// Channels of images left out whole: x [N, pixels, C] bf16 becomes scale*x where kept [N, C] (u32) is not 0, else 0.
//
// Aligned  `x8`: C a multiple of 8, x 16 bytes; `x1`: nothing.
// Bytes    4 per value.
// Bound    memory. A thread keeps what it needs of its 8 channels over its warp's pixels.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;
/// Pixels that a block takes.
constexpr uint32_t CHUNK = 64;

// Grid (chunks of pixels, pieces of 32 vectors, images).
template <int N> DEVICE void apply(bf16 *x, const uint32_t *kept, float scale, uint32_t pixels, uint32_t c) {
    const uint32_t channel = (blockIdx.y * 32 + lane_id()) * N, start = blockIdx.x * CHUNK;
    if (channel >= c) return;
    const uint64_t image = blockIdx.z;
    // A bit each.
    uint32_t keep = 0;
#pragma unroll
    for (int j = 0; j < N; j++) keep |= uint32_t(kept[image * c + channel + j] != 0) << j;
    const uint32_t end = min(start + CHUNK, pixels);
#pragma unroll 4
    for (uint32_t pixel = start + warp_id(); pixel < end; pixel += WARPS) {
        bf16 *at = x + (image * pixels + pixel) * c + channel;
        float value[N];
        load(at, value);
#pragma unroll
        for (int j = 0; j < N; j++) value[j] = (keep >> j & 1) != 0 ? scale * value[j] : 0.f;
        store(at, value);
    }
}

}  // namespace

#define DROP_CHANNELS(NAME, N)                                                                                         \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        drop_channels_apply_##NAME(bf16 *x, const uint32_t *kept, float scale, uint32_t pixels, uint32_t c) {          \
        apply<N>(x, kept, scale, pixels, c);                                                                           \
    }
DROP_CHANNELS(x8_bf16, 8)
DROP_CHANNELS(x1_bf16, 1)

EXPORT(CHUNK, CHUNK)
