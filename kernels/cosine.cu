// Negative cosine of unit rows and the keys of other rows: BYOL's loss, and its gradient.
//
//   x, y [R, d] f32 of unit length; the key of row i is y of row (i + shift) mod R
//   loss = factor·1/R·Σ_i (2 − 2·x_i·y_key(i));  dx_i = −2·factor/R·y_key(i)
//
// Order    a lane's values in order, lanes by butterfly, rows and blocks in order in f64: fixed by R and d.
// Aligned  `x4`: d a multiple of 4, pointers 16 bytes; `x1`: nothing.
// FLOPs    3 per value.  Bytes per value: 12.  Bound: memory, latency at the sizes of a head. One warp per row.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;

/// `losses [blocks]`: the sum of (2 − 2·x·y) over the rows of a block.
template <int N>
DEVICE void rows_of(double *losses, float *dx, const float *x, const float *y, uint32_t rows, uint32_t d,
                    uint32_t shift, float scale) {
    const uint32_t row = blockIdx.x * WARPS + warp_id();
    double loss = 0.0;
    if (row < rows) {
        const uint32_t behind = row + shift, key = behind < rows ? behind : behind - rows;
        const uint64_t first = uint64_t(row) * d, other = uint64_t(key) * d;
        float a[N], b[N], sum = 0.f;
#pragma unroll 2
        for (uint32_t c = lane_id() * N; c < d; c += 32 * N) {
            load(x + first + c, a);
            load(y + other + c, b);
#pragma unroll
            for (int i = 0; i < N; i++) sum += a[i] * b[i];
#pragma unroll
            for (int i = 0; i < N; i++) b[i] *= scale;
            store(dx + first + c, b);
        }
        loss = 2.0 - 2.0 * warp_sum(sum);
    }
    loss = block_sum_f64<WARPS>(lane_id() == 0 ? loss : 0.0);
    if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

}  // namespace

#define KERNEL(NAME, N)                                                                                                \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        cosine_rows_##NAME(double *losses, float *dx, const float *x, const float *y, uint32_t rows, uint32_t d,       \
                           uint32_t shift, float scale) {                                                              \
        rows_of<N>(losses, dx, x, y, rows, d, shift, scale);                                                           \
    }
KERNEL(x4_f32, 4)
KERNEL(x1_f32, 1)

EXPORT(ROWS, WARPS)
