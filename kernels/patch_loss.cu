// The loss of a masked autoencoder and its gradient.
//
//   predictions [N, 1+L, P] bf16, P = 3*p*p in the order (row, column, channel); images [N, S, S, 3] u8, a value
//   becoming v*scale[c] + shift[c]; rows [N, 1+L]: above `kept` for patches that were removed, any for the class token.
//   For those: target = (x - mean)/sqrt(var + 1e-6) with var over P - 1, losses [N, 1+L] = share*mean((prediction -
//   target)^2), dpredictions = slope*(prediction - target); 0 for all others.
//
// Order    a lane's values in order, lanes by butterfly.
// Bytes    per value of a removed patch 1 (three times, from L1) and 2 read; 2 written per value of any.
// Bound    memory and latency. One warp per row.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;
constexpr float EPS = 1e-6f;

}  // namespace

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    patch_loss_bf16(bf16 *dpredictions, float *losses, const bf16 *predictions, const uint8_t *images,
                    const uint32_t *rows, uint32_t n, uint32_t side, uint32_t patch, uint32_t kept, float share,
                    float slope, float scale0, float scale1, float scale2, float shift0, float shift1, float shift2) {
    const uint32_t across = side / patch, count = across * across + 1, length = 3 * patch * patch;
    const uint32_t row = blockIdx.x * WARPS + warp_id();
    if (row >= n * count) return;
    dpredictions += uint64_t(row) * length, predictions += uint64_t(row) * length;
    if (row % count == 0 || rows[row] <= kept) {
        for (uint32_t i = lane_id(); i < length; i += 32) dpredictions[i] = from_f32<bf16>(0.f);
        if (lane_id() == 0) losses[row] = 0.f;
        return;
    }
    const uint32_t index = row % count - 1, line = 3 * patch;
    const uint64_t top = uint64_t(row / count) * side + index / across * patch;
    const uint8_t *corner = images + (top * side + index % across * patch) * 3;
    auto pixel = [&](uint32_t i) {
        const uint32_t c = i % 3;
        const float value = corner[uint64_t(i / line) * 3 * side + i % line];
        return fmaf(value, c == 0 ? scale0 : c == 1 ? scale1 : scale2, c == 0 ? shift0 : c == 1 ? shift1 : shift2);
    };
    float sum = 0.f;
    for (uint32_t i = lane_id(); i < length; i += 32) sum += pixel(i);
    const float mean = warp_sum(sum) / length;
    float squares = 0.f;
    for (uint32_t i = lane_id(); i < length; i += 32) {
        const float x = pixel(i) - mean;
        squares = fmaf(x, x, squares);
    }
    const float factor = 1.f / sqrtf(warp_sum(squares) / (length - 1) + EPS);
    float total = 0.f;
    for (uint32_t i = lane_id(); i < length; i += 32) {
        const float difference = to_f32(predictions[i]) - (pixel(i) - mean) * factor;
        total = fmaf(difference, difference, total);
        dpredictions[i] = from_f32<bf16>(slope * difference);
    }
    total = warp_sum(total);
    if (lane_id() == 0) losses[row] = share * total / length;
}

EXPORT(WARPS, WARPS)
