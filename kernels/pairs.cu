// What is known of keys for a gradient that weighs their losses `ratio` times as much as the rows': log-sum-exps less
// ln(ratio), weights times ratio. All else of a cross-entropy of rows against keys is contrastive.cu's and reduce.cu's.
//
// Bytes    16 per key. Bound by its launch.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    pairs_share_f32(float *lse_to, float *weight_to, const float *lse, const float *weight, uint32_t count, float ratio,
                    float log_ratio) {
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    lse_to[i] = lse[i] - log_ratio;
    weight_to[i] = weight[i] * ratio;
}

EXPORT(THREADS, THREADS)
