// Layer normalisation of rows: y = (x - mean)*rstd*gamma + beta with rstd = 1/sqrt(variance + eps), variance biased.
//
// Shapes   x, dx [rows, D] bf16 with rows `stride` values apart (class tokens of [N, T, D]: stride T*D); y, dy, residual, sum [rows, D]
//          bf16; stats [rows, 2] f32 (mean, rstd); gamma, beta, dgamma, dbeta [D] f32.
// Backward with g = dy*gamma and n = (x - mean)*rstd:   dx = r + rstd*(g - mean(g) - n*mean(g*n)),
//          dgamma += sum over rows of dy*n,   dbeta += sum over rows of dy.
//          r is the gradient that goes around the norm: row i takes residual[i / period] where period divides i, and 0 elsewhere.
//          (period 1: the residual branch of a block, dx may be the residual itself; period T: only class tokens had a branch.)
// Aligned  `_rows` kernels: D a multiple of 8, at most 256*VECTORS, every pointer and stride 16-byte aligned. `_any`: nothing.
// Order    A row's sums: 8 values of a vector, vectors of a lane, lanes by butterfly: fixed by D. Parameter gradients: rows of a warp
//          in order, the 4 warps of a block in order, then the blocks by `reduce_partials_f32`; blocks are fixed by the rows alone.
//
// FLOPs    per value: forward 8, backward 13.  Bytes per value: forward 4 (8 with the sum), backward 8 (6 without residual).
// Bound    memory. Two rows per warp (forward) share one reading of gamma and beta, which are twice as wide as the rows and come from
//          L1; one warp per row (backward) keeps its share of dgamma and dbeta in registers over all its rows.
// Predicted on an H200 at 4.1 TB/s, [100864, 768] (ViT-B/16, 512 images): forward 76 us, backward 151 us, their sum over the
//          25 norms of a step 5.7 ms. Not measured.
#include "common/reduce.cuh"
#include "common/types.cuh"

namespace {

constexpr int ROWS_PER_WARP = 2;
constexpr int FORWARD_WARPS = 8;
constexpr int BACKWARD_WARPS = 4;

DEVICE uint4 load_words(const bf16 *p) { return *reinterpret_cast<const uint4 *>(p); }
DEVICE void store_words(bf16 *p, uint4 words) { *reinterpret_cast<uint4 *>(p) = words; }

template <int VECTORS, bool RESIDUAL>
DEVICE void forward_rows(bf16 *y, float2 *stats, bf16 *sum, const bf16 *x, const bf16 *residual,
                                             const float *gamma, const float *beta, uint32_t rows, uint32_t d,
                                             uint64_t stride, float eps) {
    const uint32_t lane = lane_id(), warp = warp_id();
    const uint32_t first = (blockIdx.x * FORWARD_WARPS + warp) * ROWS_PER_WARP;
    uint4 values[ROWS_PER_WARP][VECTORS];
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint32_t c = 8 * (32 * v + lane);
            const bool inside = first + r < rows && c < d;
            values[r][v] = inside ? load_words(x + (first + r) * stride + c) : make_uint4(0, 0, 0, 0);
        }
    }
    if constexpr (RESIDUAL) {
#pragma unroll
        for (int r = 0; r < ROWS_PER_WARP; r++) {
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                const uint32_t c = 8 * (32 * v + lane);
                if (first + r < rows && c < d) {
                    const uint64_t at = uint64_t(first + r) * d + c;
                    float a[8], b[8];
                    unpack_bf16(values[r][v], a);
                    unpack_bf16(load_words(residual + at), b);
#pragma unroll
                    for (int i = 0; i < 8; i++) a[i] += b[i];
                    // The rounded sum is what the backward reads, so it is also what is normalised here.
                    values[r][v] = pack_bf16(a);
                    store_words(sum + at, values[r][v]);
                }
            }
        }
    }
    float mean[ROWS_PER_WARP], rstd[ROWS_PER_WARP];
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) {
        float total = 0.f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            float a[8];
            unpack_bf16(values[r][v], a);
#pragma unroll
            for (int i = 0; i < 8; i++) total += a[i];
        }
        mean[r] = warp_sum(total) / d;
    }
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) {
        float total = 0.f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            if (8 * (32 * v + lane) < d) {
                float a[8];
                unpack_bf16(values[r][v], a);
#pragma unroll
                for (int i = 0; i < 8; i++) total += (a[i] - mean[r]) * (a[i] - mean[r]);
            }
        }
        rstd[r] = 1.f / sqrtf(warp_sum(total) / d + eps);
    }
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const uint32_t c = 8 * (32 * v + lane);
        if (c < d) {
            float scale[8], shift[8];
            load(gamma + c, scale);
            load(beta + c, shift);
#pragma unroll
            for (int r = 0; r < ROWS_PER_WARP; r++) {
                float a[8];
                unpack_bf16(values[r][v], a);
#pragma unroll
                for (int i = 0; i < 8; i++) a[i] = (a[i] - mean[r]) * rstd[r] * scale[i] + shift[i];
                if (first + r < rows) store_words(y + uint64_t(first + r) * d + c, pack_bf16(a));
            }
        }
    }
    if (lane == 0) {
#pragma unroll
        for (int r = 0; r < ROWS_PER_WARP; r++) {
            if (first + r < rows) stats[first + r] = make_float2(mean[r], rstd[r]);
        }
    }
}

/// Any width and alignment: one warp per row, which is read three times (from L1 after the first).
template <bool RESIDUAL>
DEVICE void forward_any(bf16 *y, float2 *stats, bf16 *sum, const bf16 *x, const bf16 *residual,
                                            const float *gamma, const float *beta, uint32_t rows, uint32_t d,
                                            uint64_t stride, float eps) {
    const uint32_t lane = lane_id(), row = blockIdx.x * FORWARD_WARPS + warp_id();
    if (row >= rows) return;
    x += row * stride;
    y += uint64_t(row) * d;
    if constexpr (RESIDUAL) {
        residual += uint64_t(row) * d;
        sum += uint64_t(row) * d;
        // Every lane reads back only what it wrote itself.
        for (uint32_t c = lane; c < d; c += 32) sum[c] = from_f32<bf16>(to_f32(x[c]) + to_f32(residual[c]));
        x = sum;
    }
    float total = 0.f;
    for (uint32_t c = lane; c < d; c += 32) total += to_f32(x[c]);
    const float mean = warp_sum(total) / d;
    total = 0.f;
    for (uint32_t c = lane; c < d; c += 32) total += (to_f32(x[c]) - mean) * (to_f32(x[c]) - mean);
    const float rstd = 1.f / sqrtf(warp_sum(total) / d + eps);
    for (uint32_t c = lane; c < d; c += 32) y[c] = from_f32<bf16>((to_f32(x[c]) - mean) * rstd * gamma[c] + beta[c]);
    if (lane == 0) stats[row] = make_float2(mean, rstd);
}

/// The row of `residual` that belongs to `row`, or null.
DEVICE const bf16 *branch(const bf16 *residual, uint32_t period, uint32_t row, uint32_t d) {
    return residual != nullptr && row % period == 0 ? residual + uint64_t(row / period) * d : nullptr;
}

template <int VECTORS>
DEVICE void backward_rows(bf16 *dx, float *partials, const bf16 *residual, const bf16 *dy,
                                              const bf16 *x, const float2 *stats, const float *gamma, uint32_t rows,
                                              uint32_t d, uint64_t stride, uint32_t period, uint32_t rows_per_block) {
    __shared__ __align__(16) float part[BACKWARD_WARPS][256 * VECTORS];
    const uint32_t lane = lane_id(), warp = warp_id();
    const uint32_t start = blockIdx.x * rows_per_block, end = min(start + rows_per_block, rows);
    float dgamma[VECTORS][8] = {}, dbeta[VECTORS][8] = {};
    for (uint32_t row = start + warp; row < end; row += BACKWARD_WARPS) {
        uint4 xs[VECTORS], dys[VECTORS], around[VECTORS];
        const bf16 *r = branch(residual, period, row, d);
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint32_t c = 8 * (32 * v + lane);
            xs[v] = dys[v] = around[v] = make_uint4(0, 0, 0, 0);
            if (c < d) {
                xs[v] = load_words(x + row * stride + c);
                dys[v] = load_words(dy + uint64_t(row) * d + c);
                if (r != nullptr) around[v] = load_words(r + c);
            }
        }
        const float2 stat = stats[row];
        const float mean = stat.x, rstd = stat.y;
        float sum_g = 0.f, sum_gn = 0.f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint32_t c = 8 * (32 * v + lane);
            if (c < d) {
                float a[8], g[8], scale[8];
                unpack_bf16(xs[v], a);
                unpack_bf16(dys[v], g);
                load(gamma + c, scale);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const float n = (a[i] - mean) * rstd;
                    dgamma[v][i] += g[i] * n;
                    dbeta[v][i] += g[i];
                    sum_g += g[i] * scale[i];
                    sum_gn += g[i] * scale[i] * n;
                }
            }
        }
        const float mean_g = warp_sum(sum_g) / d, mean_gn = warp_sum(sum_gn) / d;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint32_t c = 8 * (32 * v + lane);
            if (c < d) {
                float a[8], g[8], scale[8], out[8];
                unpack_bf16(xs[v], a);
                unpack_bf16(dys[v], g);
                unpack_bf16(around[v], out);
                load(gamma + c, scale);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const float n = (a[i] - mean) * rstd;
                    out[i] += rstd * (g[i] * scale[i] - mean_g - n * mean_gn);
                }
                store_words(dx + row * stride + c, pack_bf16(out));
            }
        }
    }
    // The warps' shares, added in order: dgamma first, then dbeta through the same memory.
#pragma unroll
    for (int which = 0; which < 2; which++) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            store(&part[warp][8 * (32 * v + lane)], which == 0 ? dgamma[v] : dbeta[v]);
        }
        __syncthreads();
        for (uint32_t c = threadIdx.x; c < d; c += 32 * BACKWARD_WARPS) {
            float total = part[0][c];
#pragma unroll
            for (int w = 1; w < BACKWARD_WARPS; w++) total += part[w][c];
            partials[(2 * uint64_t(blockIdx.x) + which) * d + c] = total;
        }
        __syncthreads();
    }
}

}  // namespace

#define FORWARD_ROWS(VECTORS)                                                                                          \
    extern "C" __global__ void __launch_bounds__(32 * FORWARD_WARPS) layernorm_forward_rows##VECTORS##_bf16(           \
        bf16 *y, float2 *stats, const bf16 *x, const float *gamma, const float *beta, uint32_t rows, uint32_t d,       \
        uint64_t stride, float eps) {                                                                                  \
        forward_rows<VECTORS, false>(y, stats, nullptr, x, nullptr, gamma, beta, rows, d, stride, eps);                \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * FORWARD_WARPS) layernorm_residual_rows##VECTORS##_bf16(          \
        bf16 *y, float2 *stats, bf16 *sum, const bf16 *x, const bf16 *residual, const float *gamma, const float *beta, \
        uint32_t rows, uint32_t d, uint64_t stride, float eps) {                                                       \
        forward_rows<VECTORS, true>(y, stats, sum, x, residual, gamma, beta, rows, d, stride, eps);                    \
    }
FORWARD_ROWS(1)
FORWARD_ROWS(2)
FORWARD_ROWS(3)
FORWARD_ROWS(4)

extern "C" __global__ void __launch_bounds__(32 * FORWARD_WARPS)
    layernorm_forward_any_bf16(bf16 *y, float2 *stats, const bf16 *x, const float *gamma, const float *beta,
                               uint32_t rows, uint32_t d, uint64_t stride, float eps) {
    forward_any<false>(y, stats, nullptr, x, nullptr, gamma, beta, rows, d, stride, eps);
}

extern "C" __global__ void __launch_bounds__(32 * FORWARD_WARPS)
    layernorm_residual_any_bf16(bf16 *y, float2 *stats, bf16 *sum, const bf16 *x, const bf16 *residual,
                                const float *gamma, const float *beta, uint32_t rows, uint32_t d, uint64_t stride,
                                float eps) {
    forward_any<true>(y, stats, sum, x, residual, gamma, beta, rows, d, stride, eps);
}

#define BACKWARD_ROWS(VECTORS)                                                                                         \
    extern "C" __global__ void __launch_bounds__(32 * BACKWARD_WARPS) layernorm_backward_rows##VECTORS##_bf16(         \
        bf16 *dx, float *partials, const bf16 *residual, const bf16 *dy, const bf16 *x, const float2 *stats,           \
        const float *gamma, uint32_t rows, uint32_t d, uint64_t stride, uint32_t period, uint32_t rows_per_block) {    \
        backward_rows<VECTORS>(dx, partials, residual, dy, x, stats, gamma, rows, d, stride, period, rows_per_block);  \
    }
BACKWARD_ROWS(1)
BACKWARD_ROWS(2)
BACKWARD_ROWS(3)
BACKWARD_ROWS(4)

// Any width and alignment, one warp per row; `layernorm_columns_any_bf16` makes the partial sums of the parameters.
extern "C" __global__ void __launch_bounds__(32 * FORWARD_WARPS)
    layernorm_backward_any_bf16(bf16 *dx, const bf16 *residual, const bf16 *dy, const bf16 *x, const float2 *stats,
                                const float *gamma, uint32_t rows, uint32_t d, uint64_t stride, uint32_t period) {
    const uint32_t lane = lane_id(), row = blockIdx.x * FORWARD_WARPS + warp_id();
    if (row >= rows) return;
    const bf16 *r = branch(residual, period, row, d);
    x += row * stride;
    dx += row * stride;
    dy += uint64_t(row) * d;
    const float mean = stats[row].x, rstd = stats[row].y;
    float sum_g = 0.f, sum_gn = 0.f;
    for (uint32_t c = lane; c < d; c += 32) {
        const float g = to_f32(dy[c]) * gamma[c];
        sum_g += g;
        sum_gn += g * ((to_f32(x[c]) - mean) * rstd);
    }
    const float mean_g = warp_sum(sum_g) / d, mean_gn = warp_sum(sum_gn) / d;
    for (uint32_t c = lane; c < d; c += 32) {
        const float n = (to_f32(x[c]) - mean) * rstd;
        const float around = r == nullptr ? 0.f : to_f32(r[c]);
        dx[c] = from_f32<bf16>(around + rstd * (to_f32(dy[c]) * gamma[c] - mean_g - n * mean_gn));
    }
}

extern "C" __global__ void __launch_bounds__(128)
    layernorm_columns_any_bf16(float *partials, const bf16 *dy, const bf16 *x, const float2 *stats, uint32_t rows,
                               uint32_t d, uint64_t stride, uint32_t rows_per_block) {
    const uint32_t c = blockIdx.x * 128 + threadIdx.x;
    const uint32_t start = blockIdx.y * rows_per_block, end = min(start + rows_per_block, rows);
    if (c >= d) return;
    float dgamma = 0.f, dbeta = 0.f;
    for (uint32_t row = start; row < end; row++) {
        const float g = to_f32(dy[uint64_t(row) * d + c]);
        dgamma += g * ((to_f32(x[row * stride + c]) - stats[row].x) * stats[row].y);
        dbeta += g;
    }
    partials[(2 * uint64_t(blockIdx.y)) * d + c] = dgamma;
    partials[(2 * uint64_t(blockIdx.y) + 1) * d + c] = dbeta;
}
