// Activations of stored values, flat buffers of any length, in place or not: y = f(x), arithmetic in f32.
//
// Aligned  `x8`: both pointers 16 bytes; `x1`: nothing.  Bytes: 4 per value.  Bound: memory.
#include "common/gelu.cuh"

namespace {

constexpr int THREADS = 256;

struct Gelu {
    DEVICE float operator()(float x) const { return gelu(x); }
};

template <int N, typename F> DEVICE void activate(bf16 *y, const bf16 *x, uint64_t len, F f) {
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * N;
    if (i + N <= len) {
        float a[N];
        load(x + i, a);
#pragma unroll
        for (int j = 0; j < N; j++) a[j] = f(a[j]);
        store(y + i, a);
    } else {
        for (uint64_t j = i; j < len; j++) y[j] = from_f32<bf16>(f(to_f32(x[j])));
    }
}

}  // namespace

#define ACTIVATION(NAME, N, F)                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                   \
        activation_##NAME##_x##N(bf16 *y, const bf16 *x, uint64_t len) {                    \
        activate<N>(y, x, len, F{});                                                        \
    }
ACTIVATION(gelu, 8, Gelu)
ACTIVATION(gelu, 1, Gelu)

EXPORT(THREADS, THREADS)
