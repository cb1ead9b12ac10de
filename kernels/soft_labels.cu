// Softmax cross-entropy against soft targets, and its gradient.
//
//   x [N, C] f32; of row i two labels and the share t of the first (bits of an f32):
//   q = even everywhere, own*t more at the first, own*(1 - t) more at the second
//   losses [N] = own*(lse - t*x[first] - (1 - t)*x[second]) + even*sum over c of (lse - x[c]);
//   dx [N, C] bf16 = scale*(softmax - q)
//
// Order    a lane's values in order, lanes by butterfly: fixed by C. Labels must be below C.
// FLOPs    15 per value.  Bytes per value: 14 (x three times, twice of them from L2).
// Bound    latency, at the sizes of a classifier. One warp per row.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;

}  // namespace

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    soft_labels_forward_f32(bf16 *dx, float *losses, const float *x, const uint32_t *first, const uint32_t *second,
                            const uint32_t *shares, uint32_t rows, uint32_t classes, float even, float own,
                            float scale) {
    const uint32_t row = blockIdx.x * WARPS + warp_id();
    if (row >= rows) return;
    x += uint64_t(row) * classes, dx += uint64_t(row) * classes;
    const uint32_t a = first[row], b = second[row];
    const float share = __uint_as_float(shares[row]);
    float top = -INFINITY, sum = 0.f, rest = 0.f;
#pragma unroll 4
    for (uint32_t c = lane_id(); c < classes; c += 32) top = fmaxf(top, x[c]);
    top = warp_max(top);
#pragma unroll 4
    for (uint32_t c = lane_id(); c < classes; c += 32) sum += expf(x[c] - top);
    sum = warp_sum(sum);
    const float lse = top + logf(sum), inverse = 1.f / sum;
#pragma unroll 4
    for (uint32_t c = lane_id(); c < classes; c += 32) {
        rest += lse - x[c];
        float target = even;
        if (c == a) target += own * share;
        if (c == b) target += own * (1.f - share);
        dx[c] = from_f32<bf16>(scale * (expf(x[c] - top) * inverse - target));
    }
    rest = warp_sum(rest);
    if (lane_id() == 0) losses[row] = own * (lse - share * x[a] - (1.f - share) * x[b]) + even * rest;
}

EXPORT(ROWS, WARPS)
