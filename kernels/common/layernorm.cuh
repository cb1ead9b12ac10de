// The forward of layer norms, for layernorm.cu (bf16 and f16) and layernorm_sm89.cu (e4m3 out).
#pragma once
#include "reduce.cuh"
#include "types.cuh"

namespace {

constexpr int WARPS = 4;

/// A row spread over a warp in vectors of `N` values: vector `v` of a lane begins at column N*(32*v + lane). Only the
/// last of `VECTORS` may reach beyond the row: it is then moved to the row's end, so that every load is unconditional,
/// and counts for nothing.
template <int N, int VECTORS> struct Row {
    static DEVICE uint32_t column(int v, uint32_t d) {
        const uint32_t c = N * (32 * v + lane_id());
        return v + 1 < VECTORS ? c : min(c, d - N);
    }
    static DEVICE bool inside(int v, uint32_t d) { return v + 1 < VECTORS || N * (32 * v + lane_id()) < d; }
};

/// Four values that no thread writes. (Ordinary loads of float4 are taken apart by the compiler.)
DEVICE float4 parameters(const float *p) { return __ldg(reinterpret_cast<const float4 *>(p)); }

/// One row per warp. Vectors of 4 values, so that gamma and beta are read 16 bytes per lane without gaps. `stats` are
/// written where STATS. y of e4m3 is times `inverse`.
template <int VECTORS, bool STATS, typename T, typename Y>
DEVICE void forward_rows(Y *y, float2 *stats, const T *x, const float *gamma, const float *beta, uint32_t rows,
                         uint32_t d, uint64_t stride, float eps, float inverse = 1.f) {
    using Lane = Row<4, VECTORS>;
    const uint64_t row = blockIdx.x * WARPS + warp_id();
    if (row >= rows) return;
    const float share = rcp_approx(float(d));
    float values[VECTORS][4];
#pragma unroll
    for (int v = 0; v < VECTORS; v++) load(x + row * stride + Lane::column(v, d), values[v]);
    float total = 0.f;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const float part = (values[v][0] + values[v][1]) + (values[v][2] + values[v][3]);
        total += Lane::inside(v, d) ? part : 0.f;
    }
    const float mean = warp_sum(total) * share;
    total = 0.f;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        float part = 0.f;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            values[v][i] -= mean;
            part += values[v][i] * values[v][i];
        }
        total += Lane::inside(v, d) ? part : 0.f;
    }
    const float rstd = rsqrt_approx(warp_sum(total) * share + eps);
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const uint32_t c = Lane::column(v, d);
        const float4 scale = parameters(gamma + c), shift = parameters(beta + c);
        float out[4] = {values[v][0] * rstd * scale.x + shift.x, values[v][1] * rstd * scale.y + shift.y,
                              values[v][2] * rstd * scale.z + shift.z, values[v][3] * rstd * scale.w + shift.w};
        if constexpr (sizeof(Y) == 1) {
#pragma unroll
            for (int i = 0; i < 4; i++) out[i] *= inverse;
        }
        if (Lane::inside(v, d)) store(y + row * d + c, out);
    }
    if (STATS && lane_id() == 0) stats[row] = make_float2(mean, rstd);
}

/// Any width and alignment: one warp per row, which is read three times (from L1 after the first).
template <bool STATS, typename T, typename Y>
DEVICE void forward_any(Y *y, float2 *stats, const T *x, const float *gamma, const float *beta, uint32_t rows,
                        uint32_t d, uint64_t stride, float eps, float inverse = 1.f) {
    const uint32_t lane = lane_id(), row = blockIdx.x * WARPS + warp_id();
    if (row >= rows) return;
    x += row * stride;
    y += uint64_t(row) * d;
    const float share = rcp_approx(float(d));
    float total = 0.f;
    for (uint32_t c = lane; c < d; c += 32) total += to_f32(x[c]);
    const float mean = warp_sum(total) * share;
    total = 0.f;
    for (uint32_t c = lane; c < d; c += 32) total += (to_f32(x[c]) - mean) * (to_f32(x[c]) - mean);
    const float rstd = rsqrt_approx(warp_sum(total) * share + eps);
    for (uint32_t c = lane; c < d; c += 32) {
        const float out = (to_f32(x[c]) - mean) * rstd * gamma[c] + beta[c];
        y[c] = from_f32<Y>(sizeof(Y) == 1 ? out * inverse : out);
    }
    if (STATS && lane == 0) stats[row] = make_float2(mean, rstd);
}

}  // namespace
