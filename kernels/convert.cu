// Between the number formats: bf16 from f32, rounded to nearest even, and f32 from bf16, exact. Flat buffers of any length.
//
// Aligned  `x8`: both pointers 16 bytes; `x1`: nothing.  Bytes: 6 per value.  Bound: memory.
// Predicted on an H200 at 4.1 TB/s: ViT-B's 86 M parameters 126 us. Not measured.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;

template <int N, typename To, typename From> DEVICE void convert(To *y, const From *x, uint64_t len) {
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * N;
    if (i + N <= len) {
        float a[N];
        load(x + i, a);
        store(y + i, a);
    } else {
        for (uint64_t j = i; j < len; j++) y[j] = from_f32<To>(to_f32(x[j]));
    }
}

}  // namespace

#define KERNELS(NAME, N)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) convert_bf16_##NAME(bf16 *y, const float *x, uint64_t len) { \
        convert<N>(y, x, len);                                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) convert_f32_##NAME(float *y, const bf16 *x, uint64_t len) {  \
        convert<N>(y, x, len);                                                                                         \
    }
KERNELS(x8, 8)
KERNELS(x1, 1)
