// Unit rows times e^s, the gradient of s, and its bounds; f32.
//
// forward  y = e^s*x.
// backward dx = e^s*dy, and the sum of y*dy: a thread's values in order, lanes by butterfly, warps in order, blocks in
//          order by one warp, which adds it to ds.
// clamp    s between two bounds, and its bf16 copy.
//
// Bytes    8 per value forward, 16 backward. Bound by memory, of some megabytes.
#include "common/reduce.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int VALUES = 4;

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    logit_scale_forward_f32(float *y, const float *x, const float *s, uint64_t len) {
    const float scale = expf(*s);
    const uint64_t first = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * VALUES;
#pragma unroll
    for (int j = 0; j < VALUES; j++)
        if (first + j < len) y[first + j] = scale * x[first + j];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    logit_scale_backward_f32(float *dx, float *partial, const float *dy, const float *y, const float *s, uint64_t len) {
    __shared__ float shared[THREADS / 32];
    const float scale = expf(*s);
    const uint64_t first = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * VALUES;
    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < VALUES; j++) {
        if (first + j < len) {
            const float d = dy[first + j];
            sum = fmaf(y[first + j], d, sum);
            dx[first + j] = scale * d;
        }
    }
    float sums[1] = {sum};
    block_reduce<Sum, THREADS / 32>(sums, shared);
    if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

extern "C" __global__ void __launch_bounds__(32)
    logit_scale_total_f32(float *ds, const float *partial, uint32_t count) {
    double sum = 0.0;
    for (uint32_t i = threadIdx.x; i < count; i += 32) sum += partial[i];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
    if (threadIdx.x == 0) *ds += static_cast<float>(sum);
}

extern "C" __global__ void __launch_bounds__(32) logit_scale_clamp_f32(float *s, bf16 *rounded, float low, float high) {
    if (threadIdx.x != 0) return;
    const float kept = fminf(fmaxf(*s, low), high);
    *s = kept;
    *rounded = from_f32<bf16>(kept);
}

EXPORT(THREADS, THREADS)
EXPORT(VALUES, VALUES)
