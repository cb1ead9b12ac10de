// x·sigmoid(1.702·x) and its gradient: with g = sigmoid(1.702·x), dx = dy·(g + 1.702·x·g·(1 − g)).
//
//   bf16 in and out, f32 between; flat buffers of a multiple of 8 values.
// Aligned  16 bytes.
// FLOPs    about 8 per value and two special-function results.  Bytes: 4 (forward), 6 (backward) per value.  Bound:
//          memory; one thread per 8 values.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int VALUES = 8;
constexpr float SLOPE = 1.702f;

DEVICE float gate(float x) { return rcp_approx(1.f + exp2_approx(-SLOPE * LOG2_E * x)); }

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) quick_gelu_forward_bf16(bf16 *y, const bf16 *x, uint64_t len) {
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * VALUES;
    if (i >= len) return;
    float a[VALUES];
    load(x + i, a);
#pragma unroll
    for (int j = 0; j < VALUES; j++) a[j] *= gate(a[j]);
    store(y + i, a);
}

extern "C" __global__ void __launch_bounds__(THREADS) quick_gelu_backward_bf16(bf16 *dx, const bf16 *x, uint64_t len) {
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * VALUES;
    if (i >= len) return;
    float a[VALUES], d[VALUES];
    load(x + i, a);
    load(dx + i, d);
#pragma unroll
    for (int j = 0; j < VALUES; j++) {
        const float g = gate(a[j]);
        d[j] *= fmaf(SLOPE * a[j] * g, 1.f - g, g);
    }
    store(dx + i, d);
}

EXPORT(VALUES, VALUES)
