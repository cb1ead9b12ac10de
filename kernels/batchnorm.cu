// Batch normalisation over rows, each slot of rows on its own (the k-th views of all captions), with an optional ReLU
// behind it: y = (x - mean)*rstd*gamma + beta with rstd = 1/sqrt(variance + eps), variance biased; y = max(y, 0).
//
// Shapes   x, y, dy, dx [S, R, C] bf16 or f32 (slot-major); gamma, beta, dgamma, dbeta, running mean and variance [C]
//          f32 (gamma and beta may be null: no affine part); stats [S, 2, C] f32 (mean, rstd).
// Steps    forward   moments: [K, S, 2, C] (mean and squared deviations of 64 rows) -> merge: [S, 2, C], this rank's
//                    -> (ranks gather [ranks, S, 2, C]) -> statistics: stats, and the running estimates slot after slot
//                    -> apply.
//          backward  sums: [K, S, 2, C] (sum of dy, sum of dy*n) -> add: [S, 2, C] and dgamma, dbeta += this rank's
//                    -> (ranks add [S, 2, C]) -> backward_apply: dx = gamma*rstd*(dy - mean(dy) - n*mean(dy*n)), n = (x
//                    - mean)*rstd.
//          Ranks must hold equal numbers of rows. The ReLU's mask is recomputed from x, with the arithmetic of the
//          forward.
// Accuracy deviations are summed around the mean of their own 64 rows and merged exactly (Chan et al. 1979): no
// difference of large
//          sums, so f32 suffices.
// Aligned  `x8` (bf16) and `x4` (f32) kernels: C a multiple of 8 or 4 and 16-byte aligned pointers; `x1`: nothing.
//
// FLOPs    per value: forward 8, backward 12.  Bytes per bf16 value: forward 6 (x twice, y), backward 10 (x, dy twice,
//          dx).
// Bound    memory. A thread keeps the parameters of its 16 bytes of columns in registers over its rows.
#include "common/columns.cuh"

namespace {

constexpr int WARPS = 8;
/// Rows per thread and per block of the kernels that sum.
constexpr int ROWS = 8;
constexpr int CHUNK = WARPS * ROWS;
/// Warps of a block that merges or adds chunks: enough that a few columns of the thousands of chunks of maps still keep
/// the memory busy.
constexpr int MERGE_WARPS = 32;
/// Rows that a thread of the kernels that apply has in flight; they read whole batches before they write.
constexpr int BATCH = 4;

/// Mean and sum of squared deviations of `count` values.
struct Moments {
    float count, mean, squares;
};

DEVICE Moments merge(Moments a, Moments b) {
    const float count = a.count + b.count, difference = b.mean - a.mean, share = b.count / fmaxf(count, 1.f);
    return {count, a.mean + difference * share, a.squares + b.squares + difference * difference * a.count * share};
}

/// The same product and sum wherever the output is needed, so that the mask of the ReLU is the same too.
DEVICE float normalised(float x, float mean, float rstd) { return __fmul_rn(__fadd_rn(x, -mean), rstd); }
DEVICE float affine(float n, float gamma, float beta) { return __fmaf_rn(n, gamma, beta); }

/// What a block takes, and a thread of it: its first column, and `count` rows of a slot from `start` on. Grid (chunks
/// of 64 rows by pieces of 32 vectors of columns, slots).
template <int N> struct Share {
    uint32_t column, chunk, slot, start, count;

    DEVICE Share(uint32_t rows, uint32_t cols) : slot(blockIdx.y) {
        const uint32_t across = ceil_div(cols, 32u * N);
        column = (blockIdx.x % across * 32 + lane_id()) * N, chunk = blockIdx.x / across;
        start = chunk * CHUNK, count = min(rows - start, CHUNK);
    }
};

/// `parameters[column..]`, or `otherwise` where there are none.
template <int N> DEVICE void load_or(const float *parameters, uint32_t column, float otherwise, float (&x)[N]) {
    if (parameters != nullptr) {
        load(parameters + column, x);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = otherwise;
    }
}

/// Rows `row`, `row` + WARPS, ... of a block's `count`, zeros past the last.
template <typename T, int N, int COUNT>
DEVICE void load_rows(const T *x, uint32_t row, uint32_t count, uint32_t cols, float (&a)[COUNT][N]) {
#pragma unroll
    for (int b = 0; b < COUNT; b++) {
        if (row + b * WARPS < count) {
            load(x + uint64_t(row + b * WARPS) * cols, a[b]);
        } else {
#pragma unroll
            for (int i = 0; i < N; i++) a[b][i] = 0.f;
        }
    }
}

template <typename T, int N> DEVICE void moments(float *partials, const T *x, uint32_t rows, uint32_t cols) {
    __shared__ float shared[WARPS][32 * N];
    const auto [column, chunk, slot, start, count] = Share<N>(rows, cols);
    const float share = 1.f / count;
    x += (uint64_t(slot) * rows + start) * cols + column;
    float values[ROWS][N], mean[N] = {}, squares[N] = {};
    load_rows(x, warp_id(), column < cols ? count : 0, cols, values);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int i = 0; i < N; i++) mean[i] += values[r][i];
    }
    add_warps(mean, shared);
#pragma unroll
    for (int i = 0; i < N; i++) mean[i] *= share;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (r * WARPS + warp_id() < count) {
#pragma unroll
            for (int i = 0; i < N; i++) squares[i] += (values[r][i] - mean[i]) * (values[r][i] - mean[i]);
        }
    }
    add_warps(squares, shared);
    if (warp_id() == 0 && column < cols) {
        partials += (uint64_t(chunk) * gridDim.y + slot) * 2 * cols + column;
        store(partials, mean);
        store(partials + cols, squares);
    }
}

template <typename T, int N>
DEVICE void sums(float *partials, const T *dy, const T *x, const float *stats, const float *gamma, const float *beta,
                 uint32_t rows, uint32_t cols, uint32_t relu) {
    __shared__ float shared[WARPS][32 * N];
    const auto [column, chunk, slot, start, count] = Share<N>(rows, cols);
    const uint64_t first = (uint64_t(slot) * rows + start) * cols + column;
    float sum[N] = {}, along[N] = {};
    if (column < cols) {
        float mean[N], rstd[N], scale[N], shift[N];
        load(stats + uint64_t(slot) * 2 * cols + column, mean);
        load(stats + (uint64_t(slot) * 2 + 1) * cols + column, rstd);
        load_or(gamma, column, 1.f, scale);
        load_or(beta, column, 0.f, shift);
#pragma unroll 4
        for (uint32_t row = warp_id(); row < count; row += WARPS) {
            float a[N], g[N];
            load(x + first + uint64_t(row) * cols, a);
            load(dy + first + uint64_t(row) * cols, g);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float n = normalised(a[i], mean[i], rstd[i]);
                if (relu != 0 && !(affine(n, scale[i], shift[i]) > 0.f)) g[i] = 0.f;
                sum[i] += g[i];
                along[i] += g[i] * n;
            }
        }
    }
    add_warps(sum, shared);
    add_warps(along, shared);
    if (warp_id() == 0 && column < cols) {
        partials += (uint64_t(chunk) * gridDim.y + slot) * 2 * cols + column;
        store(partials, sum);
        store(partials + cols, along);
    }
}

template <typename T, int N>
DEVICE void apply(T *y, const T *x, const float *stats, const float *gamma, const float *beta, uint32_t rows,
                  uint32_t cols, uint32_t relu) {
    const auto [column, chunk, slot, start, count] = Share<N>(rows, cols);
    if (column >= cols) return;
    const uint64_t first = (uint64_t(slot) * rows + start) * cols + column;
    float mean[N], rstd[N], scale[N], shift[N];
    load(stats + uint64_t(slot) * 2 * cols + column, mean);
    load(stats + (uint64_t(slot) * 2 + 1) * cols + column, rstd);
    load_or(gamma, column, 1.f, scale);
    load_or(beta, column, 0.f, shift);
#pragma unroll
    for (int r = 0; r < ROWS; r += BATCH) {
        float a[BATCH][N];
        load_rows(x + first, warp_id() + r * WARPS, count, cols, a);
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            const uint32_t row = warp_id() + (r + b) * WARPS;
#pragma unroll
            for (int i = 0; i < N; i++) {
                a[b][i] = affine(normalised(a[b][i], mean[i], rstd[i]), scale[i], shift[i]);
                // NaN stays NaN, so that a divergence is seen.
                if (relu != 0 && a[b][i] < 0.f) a[b][i] = 0.f;
            }
            if (row < count) store(y + first + uint64_t(row) * cols, a[b]);
        }
    }
}

/// `sums` are those of `total` rows per slot (all ranks').
template <typename T, int N>
DEVICE void backward_apply(T *dx, const T *dy, const T *x, const float *stats, const float *sums, const float *gamma,
                           const float *beta, uint32_t rows, uint32_t cols, uint32_t total, uint32_t relu) {
    const auto [column, chunk, slot, start, count] = Share<N>(rows, cols);
    if (column >= cols) return;
    const uint64_t first = (uint64_t(slot) * rows + start) * cols + column;
    const uint64_t of_slot = uint64_t(slot) * 2 * cols + column;
    float mean[N], rstd[N], scale[N], shift[N], mean_dy[N], mean_dyn[N];
    load(stats + of_slot, mean);
    load(stats + of_slot + cols, rstd);
    load(sums + of_slot, mean_dy);
    load(sums + of_slot + cols, mean_dyn);
    load_or(gamma, column, 1.f, scale);
    load_or(beta, column, 0.f, shift);
    const float share = 1.f / total;
#pragma unroll
    for (int i = 0; i < N; i++) mean_dy[i] *= share, mean_dyn[i] *= share;
#pragma unroll
    for (int r = 0; r < ROWS; r += BATCH / 2) {
        float a[BATCH / 2][N], g[BATCH / 2][N];
        load_rows(x + first, warp_id() + r * WARPS, count, cols, a);
        load_rows(dy + first, warp_id() + r * WARPS, count, cols, g);
#pragma unroll
        for (int b = 0; b < BATCH / 2; b++) {
            const uint32_t row = warp_id() + (r + b) * WARPS;
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float n = normalised(a[b][i], mean[i], rstd[i]);
                const float d = relu == 0 || affine(n, scale[i], shift[i]) > 0.f ? g[b][i] : 0.f;
                a[b][i] = scale[i] * rstd[i] * (d - mean_dy[i] - n * mean_dyn[i]);
            }
            if (row < count) store(dx + first + uint64_t(row) * cols, a[b]);
        }
    }
}

}  // namespace

#define KERNELS(NAME, T, N)                                                                                            \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        batchnorm_moments_##NAME(float *partials, const T *x, uint32_t rows, uint32_t cols) {                          \
        moments<T, N>(partials, x, rows, cols);                                                                        \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        batchnorm_apply_##NAME(T *y, const T *x, const float *stats, const float *OR_NULL gamma,                       \
                               const float *OR_NULL beta,                                                              \
                               uint32_t rows, uint32_t cols, uint32_t relu) {                                          \
        apply<T, N>(y, x, stats, gamma, beta, rows, cols, relu);                                                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        batchnorm_sums_##NAME(float *partials, const T *dy, const T *x, const float *stats,                            \
                              const float *OR_NULL gamma,                                                              \
                              const float *OR_NULL beta, uint32_t rows, uint32_t cols, uint32_t relu) {                \
        sums<T, N>(partials, dy, x, stats, gamma, beta, rows, cols, relu);                                             \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS) batchnorm_backward_apply_##NAME(                          \
        T *dx, const T *dy, const T *x, const float *stats, const float *sums, const float *OR_NULL gamma,             \
        const float *OR_NULL beta,                                                                                     \
        uint32_t rows, uint32_t cols, uint32_t total, uint32_t relu) {                                                 \
        backward_apply<T, N>(dx, dy, x, stats, sums, gamma, beta, rows, cols, total, relu);                            \
    }
KERNELS(x8_bf16, bf16, 8)
KERNELS(x1_bf16, bf16, 1)
KERNELS(x4_f32, float, 4)
KERNELS(x1_f32, float, 1)

// Moments of all rows of a slot from those of its chunks. Grid (columns, slots); warp w takes chunks w, w + 32, ...,
// then the warps are merged in order.
extern "C" __global__ void __launch_bounds__(32 * MERGE_WARPS)
    batchnorm_merge_f32(float *merged, const float *partials, uint32_t rows, uint32_t cols) {
    __shared__ float shared[3][MERGE_WARPS][32];
    const uint32_t column = blockIdx.x * 32 + lane_id(), slot = blockIdx.y, chunks = ceil_div(rows, uint32_t(CHUNK));
    Moments all = {0.f, 0.f, 0.f};
    if (column < cols) {
#pragma unroll 4
        for (uint32_t k = warp_id(); k < chunks; k += MERGE_WARPS) {
            const float *at = partials + (uint64_t(k) * gridDim.y + slot) * 2 * cols + column;
            all = merge(all, {float(min(rows - k * CHUNK, CHUNK)), at[0], at[cols]});
        }
    }
    shared[0][warp_id()][lane_id()] = all.count;
    shared[1][warp_id()][lane_id()] = all.mean;
    shared[2][warp_id()][lane_id()] = all.squares;
    __syncthreads();
    if (warp_id() == 0 && column < cols) {
#pragma unroll
        for (int w = 1; w < MERGE_WARPS; w++) {
            all = merge(all, {shared[0][w][lane_id()], shared[1][w][lane_id()], shared[2][w][lane_id()]});
        }
        merged[uint64_t(slot) * 2 * cols + column] = all.mean;
        merged[(uint64_t(slot) * 2 + 1) * cols + column] = all.squares;
    }
}

// Statistics of all ranks' rows from `moments` [ranks, S, 2, C] of `rows` rows each; the running estimates (null: none)
// move once per slot, in order. A single row has no unbiased variance: it leaves the running variance alone. Grid
// (columns).
extern "C" __global__ void __launch_bounds__(128)
    batchnorm_statistics_f32(float *stats, float *OR_NULL running_mean, float *OR_NULL running_var,
                             const float *moments,
                             uint32_t ranks, uint32_t slots, uint32_t rows, uint32_t cols, float eps, float momentum) {
    const uint32_t column = blockIdx.x * 128 + threadIdx.x;
    if (column >= cols) return;
    float slow_mean = 0.f, slow_var = 0.f;
    if (running_mean != nullptr) slow_mean = running_mean[column], slow_var = running_var[column];
#pragma unroll 2
    for (uint32_t slot = 0; slot < slots; slot++) {
        Moments all = {0.f, 0.f, 0.f};
        for (uint32_t rank = 0; rank < ranks; rank++) {
            const float *at = moments + (uint64_t(rank) * slots + slot) * 2 * cols + column;
            all = merge(all, {float(rows), at[0], at[cols]});
        }
        stats[uint64_t(slot) * 2 * cols + column] = all.mean;
        stats[(uint64_t(slot) * 2 + 1) * cols + column] = 1.f / sqrtf(all.squares / all.count + eps);
        slow_mean = (1.f - momentum) * slow_mean + momentum * all.mean;
        if (all.count > 1.f) slow_var = (1.f - momentum) * slow_var + momentum * (all.squares / (all.count - 1.f));
    }
    if (running_mean != nullptr) running_mean[column] = slow_mean, running_var[column] = slow_var;
}

// Statistics [1, 2, C] that make `apply` normalise by the running estimates (evaluation).
extern "C" __global__ void __launch_bounds__(128)
    batchnorm_frozen_f32(float *stats, const float *running_mean, const float *running_var, uint32_t cols, float eps) {
    const uint32_t column = blockIdx.x * 128 + threadIdx.x;
    if (column >= cols) return;
    stats[column] = running_mean[column];
    stats[cols + column] = 1.f / sqrtf(running_var[column] + eps);
}

// Backward sums [S, 2, C] from those of the chunks; dbeta and dgamma (null: none) are added to. Grid (columns); warp w
// takes chunks w, w + 32, ... of each slot.
extern "C" __global__ void __launch_bounds__(32 * MERGE_WARPS)
    batchnorm_add_f32(float *sums, float *OR_NULL dgamma, float *OR_NULL dbeta, const float *partials,
                      uint32_t chunks, uint32_t slots,
                      uint32_t cols) {
    __shared__ float shared[MERGE_WARPS][64];
    const uint32_t column = blockIdx.x * 32 + lane_id();
    float of_beta = 0.f, of_gamma = 0.f;
    for (uint32_t slot = 0; slot < slots; slot++) {
        float total[2] = {};
        if (column < cols) {
#pragma unroll 4
            for (uint32_t k = warp_id(); k < chunks; k += MERGE_WARPS) {
                const float *at = partials + (uint64_t(k) * slots + slot) * 2 * cols + column;
                total[0] += at[0];
                total[1] += at[cols];
            }
        }
        add_warps(total, shared);
        if (warp_id() == 0 && column < cols) {
            sums[uint64_t(slot) * 2 * cols + column] = total[0];
            sums[(uint64_t(slot) * 2 + 1) * cols + column] = total[1];
        }
        of_beta += total[0];
        of_gamma += total[1];
    }
    if (warp_id() == 0 && column < cols && dgamma != nullptr) {
        dgamma[column] += of_gamma;
        dbeta[column] += of_beta;
    }
}

EXPORT(CHUNK, CHUNK)
EXPORT(MERGE_WARPS, MERGE_WARPS)
