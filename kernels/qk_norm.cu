// Layer norms of queries and keys, each head on its own: y = (x - mean)*rstd*gain + shift over the d values of a row,
// values as they are.
//
// Shapes   x, y, dx [tokens, 3, G, d] bf16: rows of d values, G of queries, G of keys, G of values in every token;
//          stats [tokens, 2, G, 2] f32 (mean, rstd); affine [4, d] f32: gain and shift of queries, then of keys.
// Backward with g = dy*gain and n = (x - mean)*rstd:   dx = rstd*(g - mean(g) - n*mean(g*n)), in the place of dy,
//          dgain += sum over rows of dy*n,   dshift += sum over rows of dy.
// Aligned  d is 32 or 64, every pointer 16-byte aligned.
// Order    A row's sums: a lane's 8 values in order, lanes by butterfly. Parameter gradients: rows of a group of lanes
//          in order, the groups of a block in order, then the blocks by `reduce_partials_f32`; blocks are fixed by the
//          shape.
//
// FLOPs    per query or key value: forward 8, backward 13.  Bytes per value: forward 4, backward 6.
// Bound    memory. A row is 4 or 8 lanes of 16 bytes; no value is read twice.
#include "common/reduce.cuh"
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;
/// Values of a lane.
constexpr int VECTOR = 8;

/// Σ over the lanes of a row, in all of them.
template <int LANES> DEVICE float row_sum(float x) {
#pragma unroll
    for (int distance = 1; distance < LANES; distance *= 2) x += __shfl_xor_sync(FULL_WARP, x, distance);
    return x;
}

/// Grid: vectors / THREADS.
template <int D>
DEVICE void forward(bf16 *y, float2 *stats, const bf16 *x, const float *affine, uint32_t vectors, uint32_t heads,
                    float eps) {
    constexpr int LANES = D / VECTOR;
    // Lanes behind the last vector go along with it and write nothing.
    const uint32_t mine = blockIdx.x * THREADS + threadIdx.x, vector = min(mine, vectors - 1);
    const uint32_t row = vector / LANES, column = vector % LANES * VECTOR;
    const uint32_t third = row / heads % 3, token = row / (3 * heads), head = row % heads;
    float values[VECTOR];
    load(x + uint64_t(vector) * VECTOR, values);
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < VECTOR; i++) total += values[i];
    const float mean = row_sum<LANES>(total) * (1.f / D);
    total = 0.f;
#pragma unroll
    for (int i = 0; i < VECTOR; i++) total += (values[i] - mean) * (values[i] - mean);
    const float rstd = rsqrt_approx(row_sum<LANES>(total) * (1.f / D) + eps);
    if (mine >= vectors) return;
    if (third < 2) {
        const float *gain = affine + third * 2 * D + column, *shift = gain + D;
#pragma unroll
        for (int i = 0; i < VECTOR; i++) values[i] = (values[i] - mean) * rstd * gain[i] + shift[i];
        if (column == 0) stats[(uint64_t(token) * 2 + third) * heads + head] = make_float2(mean, rstd);
    }
    store(y + uint64_t(vector) * VECTOR, values);
}

/// Grid (blocks of rows, 2): queries, then keys. `partials [blocks, 4, d]`.
template <int D>
DEVICE void backward(bf16 *d, float *partials, const bf16 *x, const float2 *stats, const float *affine, uint32_t rows,
                     uint32_t heads, uint32_t rows_per_block) {
    constexpr int LANES = D / VECTOR, GROUPS = THREADS / LANES;
    __shared__ float parts[GROUPS][2 * D];
    const uint32_t third = blockIdx.y, group = threadIdx.x / LANES, column = threadIdx.x % LANES * VECTOR;
    const uint32_t begin = blockIdx.x * rows_per_block, end = min(begin + rows_per_block, rows);
    float gain[VECTOR], dgain[VECTOR] = {}, dshift[VECTOR] = {};
#pragma unroll
    for (int i = 0; i < VECTOR; i++) gain[i] = affine[third * 2 * D + column + i];
    for (uint32_t first = begin; first < end; first += GROUPS) {
        // All lanes of a warp go around alike: shuffles take all of them.
        const bool inside = first + group < end;
        const uint32_t row = inside ? first + group : end - 1, token = row / heads, head = row % heads;
        const uint64_t at = ((uint64_t(token) * 3 + third) * heads + head) * D + column;
        const float2 stat = stats[(uint64_t(token) * 2 + third) * heads + head];
        float values[VECTOR] = {}, dy[VECTOR] = {}, sum_g = 0.f, sum_gn = 0.f;
        if (inside) {
            load(x + at, values);
            load(d + at, dy);
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            values[i] = (values[i] - stat.x) * stat.y;
            dgain[i] += dy[i] * values[i];
            dshift[i] += dy[i];
            dy[i] *= gain[i];
            sum_g += dy[i];
            sum_gn += dy[i] * values[i];
        }
        const float mean_g = row_sum<LANES>(sum_g) * (1.f / D), mean_gn = row_sum<LANES>(sum_gn) * (1.f / D);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) dy[i] = stat.y * (dy[i] - mean_g - values[i] * mean_gn);
        if (inside) store(d + at, dy);
    }
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        parts[group][column + i] = dgain[i];
        parts[group][D + column + i] = dshift[i];
    }
    __syncthreads();
    for (uint32_t c = threadIdx.x; c < 2 * D; c += THREADS) {
        float total = parts[0][c];
        for (int other = 1; other < GROUPS; other++) total += parts[other][c];
        partials[(uint64_t(blockIdx.x) * 2 + third) * 2 * D + c] = total;
    }
}

}  // namespace

#define QK_NORM(D)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) qk_norm_forward_d##D##_bf16(                                 \
        bf16 *y, float2 *stats, const bf16 *x, const float *affine, uint32_t vectors, uint32_t heads, float eps) {     \
        forward<D>(y, stats, x, affine, vectors, heads, eps);                                                          \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) qk_norm_backward_d##D##_bf16(                                \
        bf16 *d, float *partials, const bf16 *x, const float2 *stats, const float *affine, uint32_t rows,              \
        uint32_t heads, uint32_t rows_per_block) {                                                                     \
        backward<D>(d, partials, x, stats, affine, rows, heads, rows_per_block);                                       \
    }
QK_NORM(32)
QK_NORM(64)

EXPORT(THREADS, THREADS)
EXPORT(VECTOR, VECTOR)
