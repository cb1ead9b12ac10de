// Activations of stored values and their gradients, flat buffers of any length, arithmetic in f32.
//
//   forward    y = f(x), in place or not
//   backward   dx *= f'(x), in place.  x·sigmoid(1.702·x): with g the sigmoid, g + 1.702·x·g·(1 − g)
//
// Aligned  `x8`: both pointers 16 bytes; `x1`: nothing.  Bytes: 4 (forward), 6 (backward) per value.  Bound: memory.
#include "common/gelu.cuh"

namespace {

constexpr int THREADS = 256;

struct Gelu {
    DEVICE float operator()(float x) const { return gelu(x); }
};

constexpr float SLOPE = 1.702f;

DEVICE float gate(float x) { return rcp_approx(1.f + exp2_approx(-SLOPE * LOG2_E * x)); }

struct QuickGelu {
    DEVICE float operator()(float x) const { return x * gate(x); }
    static DEVICE float derivative(float x) {
        const float g = gate(x);
        return fmaf(SLOPE * x * g, 1.f - g, g);
    }
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

template <int N, typename F> DEVICE void differentiate(bf16 *dx, const bf16 *x, uint64_t len) {
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * N;
    if (i + N <= len) {
        float a[N], d[N];
        load(x + i, a);
        load(dx + i, d);
#pragma unroll
        for (int j = 0; j < N; j++) d[j] *= F::derivative(a[j]);
        store(dx + i, d);
    } else {
        for (uint64_t j = i; j < len; j++) dx[j] = from_f32<bf16>(to_f32(dx[j]) * F::derivative(to_f32(x[j])));
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
ACTIVATION(quick_gelu, 8, QuickGelu)
ACTIVATION(quick_gelu, 1, QuickGelu)

#define DERIVATIVE(NAME, N, F)                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                   \
        activation_##NAME##_backward_x##N(bf16 *dx, const bf16 *x, uint64_t len) {          \
        differentiate<N, F>(dx, x, len);                                                    \
    }
DERIVATIVE(quick_gelu, 8, QuickGelu)
DERIVATIVE(quick_gelu, 1, QuickGelu)

EXPORT(THREADS, THREADS)
