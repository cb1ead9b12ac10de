// Rows scaled to unit length: y = x / max(|x|, eps), and its gradient dx = (dy - y*<y, dy>) / |x| (dy / eps for rows
// shorter than eps).
//
// Shapes   x, y, dy, dx [rows, D] f32, norms [rows] f32. y and dx are written as f32, as bf16 or as both (a null
//          pointer: not wanted): the loss compares unit rows in bf16, the matrix products behind dx take bf16.
// Order    a lane's values in order, lanes by butterfly: fixed by D.
// Aligned  `x4`: D a multiple of 4, f32 pointers 16 bytes, bf16 pointers 8 bytes; `x1`: nothing.
// FLOPs    per value: forward 3, backward 5.  Bytes per value, one output: forward 8, backward 12 (second readings come
//          from L1).
// Bound    latency: [8192, 256] is 17 MB, 4 us on an H200 at 4.1 TB/s. One warp per row.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;

template <int N> DEVICE void write(float *y, bf16 *rounded, uint64_t at, const float (&x)[N]) {
    if (y != nullptr) store(y + at, x);
    if (rounded != nullptr) store(rounded + at, x);
}

template <int N>
DEVICE void forward(float *y, bf16 *rounded, float *norms, const float *x, uint32_t rows, uint32_t d, float eps) {
    const uint32_t row = blockIdx.x * WARPS + warp_id();
    if (row >= rows) return;
    const uint64_t first = uint64_t(row) * d;
    float a[N], sum = 0.f;
#pragma unroll 2
    for (uint32_t c = lane_id() * N; c < d; c += 32 * N) {
        load(x + first + c, a);
#pragma unroll
        for (int i = 0; i < N; i++) sum += a[i] * a[i];
    }
    const float norm = sqrtf(warp_sum(sum)), scale = 1.f / fmaxf(norm, eps);
#pragma unroll 2
    for (uint32_t c = lane_id() * N; c < d; c += 32 * N) {
        load(x + first + c, a);
#pragma unroll
        for (int i = 0; i < N; i++) a[i] *= scale;
        write(y, rounded, first + c, a);
    }
    if (lane_id() == 0) norms[row] = norm;
}

template <int N>
DEVICE void backward(float *dx, bf16 *rounded, const float *dy, const float *y, const float *norms, uint32_t rows,
                     uint32_t d, float eps) {
    const uint32_t row = blockIdx.x * WARPS + warp_id();
    if (row >= rows) return;
    const uint64_t first = uint64_t(row) * d;
    float a[N], g[N], sum = 0.f;
#pragma unroll 2
    for (uint32_t c = lane_id() * N; c < d; c += 32 * N) {
        load(y + first + c, a);
        load(dy + first + c, g);
#pragma unroll
        for (int i = 0; i < N; i++) sum += a[i] * g[i];
    }
    sum = warp_sum(sum);
    const float norm = norms[row], along = norm > eps ? sum : 0.f, scale = 1.f / fmaxf(norm, eps);
#pragma unroll 2
    for (uint32_t c = lane_id() * N; c < d; c += 32 * N) {
        load(y + first + c, a);
        load(dy + first + c, g);
#pragma unroll
        for (int i = 0; i < N; i++) a[i] = (g[i] - a[i] * along) * scale;
        write(dx, rounded, first + c, a);
    }
}

}  // namespace

#define KERNELS(NAME, N)                                                                                               \
    extern "C" __global__ void __launch_bounds__(32 * WARPS) l2norm_forward_##NAME(                                    \
        float *OR_NULL y, bf16 *OR_NULL rounded, float *norms, const float *x, uint32_t rows, uint32_t d,              \
        float eps) {                                                                                                   \
        forward<N>(y, rounded, norms, x, rows, d, eps);                                                                \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        l2norm_backward_##NAME(float *OR_NULL dx, bf16 *OR_NULL rounded, const float *dy, const float *y,              \
                               const float *norms,                                                                     \
                               uint32_t rows, uint32_t d, float eps) {                                                 \
        backward<N>(dx, rounded, dy, y, norms, rows, d, eps);                                                          \
    }
KERNELS(x4_f32, 4)
KERNELS(x1_f32, 1)

EXPORT(ROWS, WARPS)
