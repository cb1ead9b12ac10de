// The end of a cross-entropy of rows against keys, whose logits are contrastive.cu's.
//
// loss     `loss` = factor*(sum of `losses` [count] f64), added to what is there where wanted. One block; a thread's
//          values in order, lanes by butterfly, warps in order.
//
// Bytes    8 per 256 rows. Bound by its launch.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;

}  // namespace

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    pairs_loss_f32(float *loss, const double *losses, uint32_t count, float factor, uint32_t add) {
    __shared__ double shared[WARPS];
    double sum = 0.0;
    for (uint32_t i = threadIdx.x; i < count; i += 32 * WARPS) sum += losses[i];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
    if (lane_id() == 0) shared[warp_id()] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll
        for (int w = 1; w < WARPS; w++) sum += shared[w];
        *loss = (add != 0 ? *loss : 0.f) + static_cast<float>(sum * factor);
    }
}

EXPORT(THREADS, 32 * WARPS)
