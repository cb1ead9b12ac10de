// Gradients cut to a norm, each tensor on its own: g *= min(1, most/(|g| + 1e-6)).
//
//   pieces   [P, 3]: first value, length, tensor of runs of a flat buffer; the pieces of tensor t are
//            first[t] .. first[t + 1]
//   squares  partials [P] f64 = sum of g^2 of a piece
//   scale    every piece by its tensor's factor
//
// Order    a thread's values in order, lanes by butterfly, warps in order; then pieces the same way.
// Aligned  nothing.  Bytes: 4 per value, 12 where a tensor is cut.  Bound: memory.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;
constexpr int THREADS = 32 * WARPS;

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    clip_squares_f32(double *partials, const float *g, const uint32_t *pieces) {
    const uint32_t start = pieces[3 * blockIdx.x], len = pieces[3 * blockIdx.x + 1];
    double sum = 0.0;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < len; i += THREADS) sum = fma(double(g[start + i]), double(g[start + i]), sum);
    sum = block_sum_f64<WARPS>(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    clip_scale_f32(float *g, const double *partials, const uint32_t *pieces, const uint32_t *first, float most) {
    const uint32_t *own = pieces + 3 * blockIdx.x;
    const uint32_t start = own[0], len = own[1], tensor = own[2];
    double sum = 0.0;
    for (uint32_t p = first[tensor] + threadIdx.x; p < first[tensor + 1]; p += THREADS) sum += partials[p];
    const float factor = static_cast<float>(double(most) / (sqrt(block_sum_f64<WARPS>(sum)) + 1e-6));
    if (!(factor < 1.f)) return;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < len; i += THREADS) g[start + i] *= factor;
}

EXPORT(THREADS, THREADS)
