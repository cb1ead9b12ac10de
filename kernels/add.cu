// y += x: bf16, the sum in f32, rounded once; flat buffers of a multiple of 8 values.
//
// Aligned  16 bytes.  Bytes: 6 per value.  Bound: memory; one thread per 8 values.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int VALUES = 8;

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) add_forward_bf16(bf16 *y, const bf16 *x, uint64_t len) {
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * VALUES;
    if (i >= len) return;
    float a[VALUES], b[VALUES];
    load(y + i, a);
    load(x + i, b);
#pragma unroll
    for (int j = 0; j < VALUES; j++) a[j] += b[j];
    store(y + i, a);
}

EXPORT(THREADS, THREADS)
EXPORT(VALUES, VALUES)
