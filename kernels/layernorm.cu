// Layer normalisation of rows: y = (x - mean)*rstd*gamma + beta with rstd = 1/sqrt(variance + eps), variance biased.
//
// Shapes   x, dx [rows, D] bf16 with rows `stride` values apart (class tokens of [N, T, D]: stride T*D); y, dy,
//          residual [rows, D] bf16; stats [rows, 2] f32 (mean, rstd); gamma, beta, dgamma, dbeta [D] f32.
// Backward with g = dy*gamma and n = (x - mean)*rstd:   dx = r + rstd*(g - mean(g) - n*mean(g*n)),
//          dgamma += sum over rows of dy*n,   dbeta += sum over rows of dy.
//          r is the gradient that goes around the norm: row i takes residual[i / period] where period divides i, and 0
//          elsewhere.
//          (period 1: the residual branch of a block, dx may be the residual itself; period T: only class tokens had a
//          branch.)
// Inference keeps no stats and its x and y are bf16 or f16.
// Aligned  `_rows` kernels: D a multiple of 8, at most 1024 (inference 1280), every pointer and stride 16-byte aligned.
//          `_any`: nothing.
// Order    A row's sums: a lane's vectors in order, lanes by butterfly: fixed by D. Parameter gradients: rows of a warp
//          in order, the 4 warps of a block in order, then the blocks by `reduce_partials_f32`; blocks are fixed by the
//          rows alone.
//
// FLOPs    per value: forward 8, backward 13.  Bytes per value: forward 4, backward 8 (6 without residual).
// Bound    memory. Forward: one row per warp, loaded whole before its first use; gamma and beta, twice as wide as a
//          row, come from L1, whose 128 bytes per clock are the next limit (72 of the 173 clocks that memory leaves an
//          SM per row of 768). Backward: one row per warp at a time; gamma and the sums for dgamma and dbeta stay in
//          registers over all its rows.
#include "common/layernorm.cuh"

namespace {

DEVICE uint4 load_words(const bf16 *p) { return *reinterpret_cast<const uint4 *>(p); }
DEVICE void store_words(bf16 *p, uint4 words) { *reinterpret_cast<uint4 *>(p) = words; }

/// The row of `residual` that belongs to `row`, or null.
DEVICE const bf16 *branch(const bf16 *residual, uint32_t period, uint32_t row, uint32_t d) {
    return residual != nullptr && row % period == 0 ? residual + uint64_t(row / period) * d : nullptr;
}

DEVICE void load_scale(const float *gamma, float (&scale)[8]) {
    const float4 a = parameters(gamma), b = parameters(gamma + 4);
    scale[0] = a.x, scale[1] = a.y, scale[2] = a.z, scale[3] = a.w;
    scale[4] = b.x, scale[5] = b.y, scale[6] = b.z, scale[7] = b.w;
}

/// One row per warp at a time; a warp keeps gamma and its share of dgamma and dbeta in registers over all its rows.
template <int VECTORS>
DEVICE void backward_rows(bf16 *dx, float *partials, const bf16 *residual, const bf16 *dy,
                                              const bf16 *x, const float2 *stats, const float *gamma, uint32_t rows,
                                              uint32_t d, uint64_t stride, uint32_t period, uint32_t rows_per_block) {
    using Lane = Row<8, VECTORS>;
    __shared__ __align__(16) float part[WARPS][256 * VECTORS];
    const uint32_t start = blockIdx.x * rows_per_block, end = min(start + rows_per_block, rows);
    const float share = rcp_approx(float(d));
    float dgamma[VECTORS][8] = {}, dbeta[VECTORS][8] = {};
    for (uint32_t row = start + warp_id(); row < end; row += WARPS) {
        uint4 xs[VECTORS], dys[VECTORS], around[VECTORS];
        const bf16 *r = branch(residual, period, row, d);
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint32_t c = Lane::column(v, d);
            xs[v] = load_words(x + row * stride + c);
            dys[v] = load_words(dy + uint64_t(row) * d + c);
            around[v] = make_uint4(0, 0, 0, 0);
            if (r != nullptr) around[v] = load_words(r + c);
        }
        const float2 stat = stats[row];
        const float mean = stat.x, rstd = stat.y;
        float sum_g = 0.f, sum_gn = 0.f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            // Without a gradient a vector past the row's end adds nothing to any sum.
            if (!Lane::inside(v, d)) dys[v] = make_uint4(0, 0, 0, 0);
            float a[8], g[8], scale[8];
            unpack<bf16>(xs[v], a);
            unpack<bf16>(dys[v], g);
            load_scale(gamma + Lane::column(v, d), scale);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float n = (a[i] - mean) * rstd;
                dgamma[v][i] += g[i] * n;
                dbeta[v][i] += g[i];
                sum_g += g[i] * scale[i];
                sum_gn += g[i] * scale[i] * n;
            }
        }
        const float mean_g = warp_sum(sum_g) * share, mean_gn = warp_sum(sum_gn) * share;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint32_t c = Lane::column(v, d);
            float a[8], g[8], scale[8], out[8];
            unpack<bf16>(xs[v], a);
            unpack<bf16>(dys[v], g);
            unpack<bf16>(around[v], out);
            load_scale(gamma + c, scale);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float n = (a[i] - mean) * rstd;
                out[i] += rstd * (g[i] * scale[i] - mean_g - n * mean_gn);
            }
            if (Lane::inside(v, d)) store_words(dx + row * stride + c, pack<bf16>(out));
        }
    }
    // The warps' shares, added in order: dgamma first, then dbeta through the same memory.
#pragma unroll
    for (int which = 0; which < 2; which++) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            store(&part[warp_id()][8 * (32 * v + lane_id())], which == 0 ? dgamma[v] : dbeta[v]);
        }
        __syncthreads();
        for (uint32_t c = threadIdx.x; c < d; c += 32 * WARPS) {
            float total = part[0][c];
#pragma unroll
            for (int w = 1; w < WARPS; w++) total += part[w][c];
            partials[(2 * uint64_t(blockIdx.x) + which) * d + c] = total;
        }
        __syncthreads();
    }
}

}  // namespace

#define FORWARD_ROWS(VECTORS)                                                                                          \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 7) layernorm_forward_rows##VECTORS##_bf16(                \
        bf16 *y, float2 *stats, const bf16 *x, const float *gamma, const float *beta, uint32_t rows, uint32_t d,       \
        uint64_t stride, float eps) {                                                                                  \
        forward_rows<VECTORS, true, bf16>(y, stats, x, gamma, beta, rows, d, stride, eps);                             \
    }
FORWARD_ROWS(1)
FORWARD_ROWS(2)
FORWARD_ROWS(3)
FORWARD_ROWS(4)
FORWARD_ROWS(5)
FORWARD_ROWS(6)
FORWARD_ROWS(7)
FORWARD_ROWS(8)

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    layernorm_forward_any_bf16(bf16 *y, float2 *stats, const bf16 *x, const float *gamma, const float *beta,
                               uint32_t rows, uint32_t d, uint64_t stride, float eps) {
    forward_any<true, bf16>(y, stats, x, gamma, beta, rows, d, stride, eps);
}

#define INFER_ROWS(VECTORS, T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, VECTORS > 8 ? 5 : 7) layernorm_infer_rows##VECTORS##_##T( \
        T *y, const T *x, const float *gamma, const float *beta, uint32_t rows, uint32_t d, float eps) {               \
        forward_rows<VECTORS, false, T>(y, nullptr, x, gamma, beta, rows, d, d, eps);                                  \
    }
#define INFER(T)                                                                                                       \
    INFER_ROWS(1, T)                                                                                                   \
    INFER_ROWS(2, T)                                                                                                   \
    INFER_ROWS(3, T)                                                                                                   \
    INFER_ROWS(4, T)                                                                                                   \
    INFER_ROWS(5, T)                                                                                                   \
    INFER_ROWS(6, T)                                                                                                   \
    INFER_ROWS(7, T)                                                                                                   \
    INFER_ROWS(8, T)                                                                                                   \
    INFER_ROWS(9, T)                                                                                                   \
    INFER_ROWS(10, T)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS) layernorm_infer_any_##T(                                  \
        T *y, const T *x, const float *gamma, const float *beta, uint32_t rows, uint32_t d, float eps) {               \
        forward_any<false, T>(y, nullptr, x, gamma, beta, rows, d, d, eps);                                            \
    }
INFER(f16)
INFER(bf16)

#define BACKWARD_ROWS(VECTORS)                                                                                         \
    extern "C" __global__ void __launch_bounds__(32 * WARPS) layernorm_backward_rows##VECTORS##_bf16(                  \
        bf16 *dx, float *partials, const bf16 *OR_NULL residual, const bf16 *dy, const bf16 *x, const float2 *stats,   \
        const float *gamma, uint32_t rows, uint32_t d, uint64_t stride, uint32_t period, uint32_t rows_per_block) {    \
        backward_rows<VECTORS>(dx, partials, residual, dy, x, stats, gamma, rows, d, stride, period, rows_per_block);  \
    }
BACKWARD_ROWS(1)
BACKWARD_ROWS(2)
BACKWARD_ROWS(3)
BACKWARD_ROWS(4)

// Any width and alignment, one warp per row; `layernorm_columns_any_bf16` makes the partial sums of the parameters.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    layernorm_backward_any_bf16(bf16 *dx, const bf16 *OR_NULL residual, const bf16 *dy, const bf16 *x,
                                const float2 *stats,
                                const float *gamma, uint32_t rows, uint32_t d, uint64_t stride, uint32_t period) {
    const uint32_t lane = lane_id(), row = blockIdx.x * WARPS + warp_id();
    if (row >= rows) return;
    const bf16 *r = branch(residual, period, row, d);
    x += row * stride;
    dx += row * stride;
    dy += uint64_t(row) * d;
    const float mean = stats[row].x, rstd = stats[row].y, share = rcp_approx(float(d));
    float sum_g = 0.f, sum_gn = 0.f;
    for (uint32_t c = lane; c < d; c += 32) {
        const float g = to_f32(dy[c]) * gamma[c];
        sum_g += g;
        sum_gn += g * ((to_f32(x[c]) - mean) * rstd);
    }
    const float mean_g = warp_sum(sum_g) * share, mean_gn = warp_sum(sum_gn) * share;
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

EXPORT(WARPS, WARPS)
