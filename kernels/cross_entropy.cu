// Softmax cross-entropy of many classifiers at once: N rows, G heads, C classes; logits x [N, G*C] f32, a head's values
// adjacent.
//
//   gradient   losses [N, G] = ln(sum over c of exp x) - x[label], and in place x = scale*(softmax - one-hot); the
//              gradient is also written as bf16 where wanted, for the matrix products behind it
//   means      [G] mean of the losses over N, summed in f64
//   correct    [G] u32 += rows whose largest value is the label's; equal values go to the lower class, NaN is never
//              correct
//
// Order    a lane's values in order, lanes by butterfly: fixed by C. Labels must be below C.
// FLOPs    per value 14.  Bytes per value: gradient 8 (10 with bf16), correct 4.
// Bound    memory. One warp per row and head, whose values stay in registers up to 1,024 classes; beyond that they are
//          read three times.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;
/// Values per lane of the `row` kernel.
constexpr int VALUES = 32;

}  // namespace

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    cross_entropy_gradient_row_f32(float *losses, float *x, bf16 *OR_NULL rounded, const uint32_t *labels,
                                   uint32_t rows,
                                   uint32_t heads, uint32_t classes, float scale) {
    const uint64_t row = uint64_t(blockIdx.x) * WARPS + warp_id();
    if (row >= uint64_t(rows) * heads) return;
    x += row * classes;
    const uint32_t label = labels[row / heads];
    const float logit = x[label];
    float values[VALUES], top = -INFINITY, sum = 0.f;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
        const uint32_t c = 32 * i + lane_id();
        values[i] = c < classes ? x[c] : -INFINITY;
        top = fmaxf(top, values[i]);
    }
    top = warp_max(top);
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
        values[i] = 32 * i + lane_id() < classes ? expf(values[i] - top) : 0.f;
        sum += values[i];
    }
    sum = warp_sum(sum);
    const float factor = scale / sum;
    // Every lane has read the label's logit before any overwrites it.
    __syncwarp();
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
        const uint32_t c = 32 * i + lane_id();
        if (c < classes) {
            const float d = values[i] * factor - (c == label ? scale : 0.f);
            x[c] = d;
            if (rounded != nullptr) rounded[row * classes + c] = from_f32<bf16>(d);
        }
    }
    if (lane_id() == 0) losses[row] = top + logf(sum) - logit;
}

// Any number of classes.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    cross_entropy_gradient_any_f32(float *losses, float *x, bf16 *OR_NULL rounded, const uint32_t *labels,
                                   uint32_t rows,
                                   uint32_t heads, uint32_t classes, float scale) {
    const uint64_t row = uint64_t(blockIdx.x) * WARPS + warp_id();
    if (row >= uint64_t(rows) * heads) return;
    x += row * classes;
    const uint32_t label = labels[row / heads];
    const float logit = x[label];
    float top = -INFINITY, sum = 0.f;
#pragma unroll 4
    for (uint32_t c = lane_id(); c < classes; c += 32) top = fmaxf(top, x[c]);
    top = warp_max(top);
#pragma unroll 4
    for (uint32_t c = lane_id(); c < classes; c += 32) sum += expf(x[c] - top);
    sum = warp_sum(sum);
    const float factor = scale / sum;
    // Every lane has read the label's logit before any overwrites it.
    __syncwarp();
#pragma unroll 4
    for (uint32_t c = lane_id(); c < classes; c += 32) {
        const float d = expf(x[c] - top) * factor - (c == label ? scale : 0.f);
        x[c] = d;
        if (rounded != nullptr) rounded[row * classes + c] = from_f32<bf16>(d);
    }
    if (lane_id() == 0) losses[row] = top + logf(sum) - logit;
}

// One block per head.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    cross_entropy_means_f32(float *means, const float *losses, uint32_t rows, uint32_t heads) {
    __shared__ double shared[WARPS];
    double sum = 0.0;
    for (uint64_t row = threadIdx.x; row < rows; row += 32 * WARPS) sum += losses[row * heads + blockIdx.x];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
    if (lane_id() == 0) shared[warp_id()] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll
        for (int w = 1; w < WARPS; w++) sum += shared[w];
        means[blockIdx.x] = float(sum / rows);
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    cross_entropy_correct_f32(uint32_t *correct, const float *x, const uint32_t *labels, uint32_t rows, uint32_t heads,
                              uint32_t classes) {
    const uint64_t row = uint64_t(blockIdx.x) * WARPS + warp_id();
    if (row >= uint64_t(rows) * heads) return;
    x += row * classes;
    const uint32_t label = labels[row / heads];
    const float value = x[label];
    bool best = true;
#pragma unroll 4
    for (uint32_t c = lane_id(); c < classes; c += 32) best &= c < label ? x[c] < value : c == label || x[c] <= value;
    // The order of these does not matter: integers.
    if (__all_sync(FULL_WARP, best) && lane_id() == 0) atomicAdd(correct + row % heads, 1u);
}

EXPORT(PAIRS, WARPS)
EXPORT(REGISTER_CLASSES, 32 * VALUES)
