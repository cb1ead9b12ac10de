// Residual branches that some images leave out, [N, rows, D] bf16.
//
//   forward   y = residual + (kept[n] != 0 ? scale * y : 0), in f32 and rounded once; row i of the residual begins at
//             i * stride
//   backward  dx = kept[n] != 0 ? scale * dy : 0
//
// A branch that is left out is not read: whatever it holds changes nothing.
// Aligned  `x8`: D and stride multiples of 8, pointers 16 bytes; `x1`: nothing.
// Bytes    forward: 6 per value, 4 of an image that leaves it out; backward: 4, and 2.
// Bound    memory. A thread per 8 values.
#include "common/types.cuh"

namespace {

constexpr uint32_t THREADS = 256;

/// Row and column of a thread's first value; false beyond the end.
template <int N> DEVICE bool find(uint32_t count, uint32_t d, uint32_t &row, uint32_t &column) {
    const uint32_t vectors = d / N, i = blockIdx.x * THREADS + threadIdx.x;
    row = i / vectors, column = i % vectors * N;
    return row < count;
}

template <int N>
DEVICE void forward(bf16 *y, const bf16 *residual, const uint32_t *kept, float scale, uint32_t n, uint32_t rows,
                    uint32_t d, uint32_t stride) {
    uint32_t row, column;
    if (!find<N>(n * rows, d, row, column)) return;
    float sum[N];
    load(residual + uint64_t(row) * stride + column, sum);
    bf16 *at = y + uint64_t(row) * d + column;
    if (kept[row / rows] != 0) {
        float branch[N];
        load(at, branch);
#pragma unroll
        for (int j = 0; j < N; j++) sum[j] = fmaf(scale, branch[j], sum[j]);
    }
    store(at, sum);
}

template <int N>
DEVICE void backward(bf16 *dx, const bf16 *dy, const uint32_t *kept, float scale, uint32_t n, uint32_t rows,
                     uint32_t d) {
    uint32_t row, column;
    if (!find<N>(n * rows, d, row, column)) return;
    float value[N] = {};
    if (kept[row / rows] != 0) {
        load(dy + uint64_t(row) * d + column, value);
#pragma unroll
        for (int j = 0; j < N; j++) value[j] *= scale;
    }
    store(dx + uint64_t(row) * d + column, value);
}

}  // namespace

#define DROP_PATH(NAME, N)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        drop_path_##NAME(bf16 *y, const bf16 *residual, const uint32_t *kept, float scale, uint32_t n, uint32_t rows,  \
                         uint32_t d, uint32_t stride) {                                                                \
        forward<N>(y, residual, kept, scale, n, rows, d, stride);                                                      \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        drop_path_backward_##NAME(bf16 *dx, const bf16 *dy, const uint32_t *kept, float scale, uint32_t n,             \
                                  uint32_t rows, uint32_t d) {                                                         \
        backward<N>(dx, dy, kept, scale, n, rows, d);                                                                  \
    }
DROP_PATH(x8_bf16, 8)
DROP_PATH(x1_bf16, 1)

EXPORT(THREADS, THREADS)
