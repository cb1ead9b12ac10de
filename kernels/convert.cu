// Between the number formats: bf16 from f32, rounded to nearest even, and back; f16 or bf16 from f32 times a factor.
// Flat buffers of any length.
//
// Aligned  `x8`: both pointers 16 bytes; `x1`: nothing.  Bytes: 6 per value.  Bound: memory.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;

struct Unchanged {
    DEVICE float operator()(float x) const { return x; }
};
struct Scaled {
    float factor;
    DEVICE float operator()(float x) const { return x * factor; }
};

template <int N, typename To, typename From, typename Change = Unchanged>
DEVICE void convert(To *y, const From *x, uint64_t len, Change change = {}) {
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * N;
    if (i + N <= len) {
        float a[N];
        load(x + i, a);
#pragma unroll
        for (int j = 0; j < N; j++) a[j] = change(a[j]);
        store(y + i, a);
    } else {
        for (uint64_t j = i; j < len; j++) y[j] = from_f32<To>(change(to_f32(x[j])));
    }
}

}  // namespace

#define KERNELS(NAME, N)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) convert_bf16_##NAME(bf16 *y, const float *x, uint64_t len) { \
        convert<N>(y, x, len);                                                                                         \
    }
KERNELS(x8, 8)
KERNELS(x1, 1)

#define WIDENED(NAME, N)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        convert_widened_##NAME##_f32(float *wide, const bf16 *narrow, uint64_t len) {                                  \
        convert<N>(wide, narrow, len);                                                                                 \
    }
WIDENED(x8, 8)
WIDENED(x1, 1)

#define SCALED(NAME, N, T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        convert_scaled_##NAME##_##T(T *y, const float *x, float factor, uint64_t len) {                                \
        convert<N>(y, x, len, Scaled{factor});                                                                         \
    }
SCALED(x8, 8, f16)
SCALED(x8, 8, bf16)
SCALED(x1, 1, f16)
SCALED(x1, 1, bf16)

EXPORT(THREADS, THREADS)
