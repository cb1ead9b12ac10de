// Fused multi-positive softmax cross-entropy between anchors x [R, d], rows of the candidates y [K, d], of unit length
// in f32.
//
//   t_ij = x_i·y_j/τ;  q_ij = exp(t_ij)/Σ_{j≠i} exp(t_ij);  p_ij = 1/P_i on the P_i other candidates with the label of
//   i;
//   loss = 1/total·Σ_i −Σ_j p_ij·ln q_ij;  a row without positives contributes 0 (and, below, no q).
//   as anchors and as candidates rows z get, in one pass (on a rank once the others' log-sum-exps are gathered),
//   dz_i = 1/(total·τ)·Σ_j (q_ij − p_ij + q_ji − p_ji)·z_j.
//   Columns from `first_slot` on are the slots of a queue: candidates that ask for nothing, with labels of their own;
//   a slot whose label is EMPTY is no candidate.
//
// No K×K buffer: logits exist one tile at a time in registers. The forward keeps (max, Σexp, Σ_pos, P) per row and
// column split, the backward recomputes the tiles and multiplies the coefficients by y without leaving the registers
// they were computed in.
//
// Precision: every operand is split as v = hi + lo into two bf16 (relative rest 2^-17), products are hi·hi + hi·lo +
// lo·hi on the tensor cores with f32 accumulators; for unit rows the error of a product is below 3·2^-18 = 1.1e-5 and
// typically 2e-7, an f32 sum's. The same split serves the gradient's coefficients: 1 − cosine-like difference of
// gradients to f64 about 1e-11 (in plain f32 5e-14). Maxima, sums, log-sum-exps are f32, the mean of the losses f64.
// Order: splits and tiles follow from the shape alone; no atomics. Any R, K ≥ 1, any d ≤ 1024 (operands are padded with
// zeros to 32). Alignment: 16 bytes for x, y and the operands where d is a multiple of 4, 4 bytes otherwise.
//
// FLOPs: 3·2·R·K·d forward, 6·2·R·K·d backward (for d > 256 another 3·2·R·K·d per further 256). Bytes: each 128-row
// tile streams y (4 bytes per value) from L2: 96 FLOP per byte forward, 131 backward; HBM sees operands a few times
// only. Bound by mma.sync.
#include "common/mma.cuh"
#include "common/reduce.cuh"
#include "common/split_product.cuh"

extern __shared__ __align__(1024) unsigned char shared[];

/// What no row's label is.
constexpr uint32_t EMPTY = 0x7f7fffff;

/// Splits f32 rows into their two halves. One thread per 8 values.
extern "C" __global__ void __launch_bounds__(256)
    contrastive_split_f32(uint4 *operand, const float *x, int rows, int d, int pieces) {
    const int group = blockIdx.x * 256 + threadIdx.x;
    const int row = group / (4 * pieces), column = group % (4 * pieces) * 8;
    if (row >= rows) return;
    const float *source = x + static_cast<size_t>(row) * d + column;
    float v[8];
    if (d % 4 == 0) {
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
            const float4 four =
                column + i < d ? *reinterpret_cast<const float4 *>(source + i) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = column + i < d ? source[i] : 0.0f;
    }
    store_split(operand + static_cast<size_t>(row * pieces + column / PIECE) * CHUNKS + column % PIECE / 8, v);
}

// ---- forward: 128 rows × 128 columns per tile, a warp has 32 whole rows
// -----------------------------------------------------------

/// What is known of a row after some columns: the largest logit and Σ 2^(t − max), both in units of log2; Σ_pos of the
/// products; P.
struct RowStats {
    float max, sum, positive, count;

    /// Exponentials are taken against this, so that a row of nothing (−∞) stays 0 and a NaN stays a NaN.
    static DEVICE float finite(float max) { return max == -INFINITY ? 0.0f : max; }
    DEVICE void merge(const RowStats &other) {
        const float top = fmaxf(max, other.max), base = finite(top);
        sum = sum * exp2_approx(max - base) + other.sum * exp2_approx(other.max - base);
        max = top;
        positive += other.positive;
        count += other.count;
    }
};

constexpr int FORWARD_ROWS = 128;
constexpr int FORWARD_COLUMNS = 128;
constexpr int FORWARD_THREADS = 128;
/// Bytes of x and y of one piece; there are two stages.
constexpr int FORWARD_STAGE = (FORWARD_ROWS + FORWARD_COLUMNS) * LINE;

/// Grid (row tiles, splits). `partial [splits, rows]` gets the stats of each row over the split's `tiles` column tiles;
/// `shift` is the column that row 0 is itself; `scale` = log2(e)/τ. Without a queue `first_slot` = `columns`.
extern "C" __global__ void __launch_bounds__(FORWARD_THREADS, 2)
    contrastive_forward(float4 *partial, const uint4 *x, const uint4 *y, const uint32_t *row_labels,
                        const uint32_t *column_labels, const uint32_t *OR_NULL slot_labels, int rows, int columns,
                        int first_slot, int shift, int pieces, int tiles, float scale) {
    __shared__ uint2 labels[2][FORWARD_COLUMNS / 2];
    const uint32_t stages = shared_address(shared);
    const int row = blockIdx.x * FORWARD_ROWS;
    const int begin = blockIdx.y * tiles * FORWARD_COLUMNS;
    const int end = min(columns, begin + tiles * FORWARD_COLUMNS);
    const int lane_row = row + warp_id() * 32 + lane_id() / 4;

    uint32_t label[4];
    RowStats stats[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        label[i] = row_labels[min(lane_row + 8 * i, rows - 1)];
        stats[i] = {-INFINITY, 0.0f, 0.0f, 0.0f};
    }
    const uint32_t lane_label = shared_address(labels) + threadIdx.x * 4;
    // With the first piece of a tile come its labels; those of the tile before are still read.
    auto fetch = [&](int stage, int column, int piece, int parity) {
        if (piece == 0) {
            const int own = min(column + static_cast<int>(threadIdx.x), columns - 1);
            const uint32_t *source = own < first_slot ? column_labels + own : slot_labels + (own - first_slot);
            cp_async<4>(lane_label + parity * (FORWARD_COLUMNS * 4), source);
        }
        const uint32_t tile = stages + stage * FORWARD_STAGE;
        copy_piece<FORWARD_ROWS, FORWARD_THREADS>(tile, x, row, rows, piece, pieces);
        copy_piece<FORWARD_COLUMNS, FORWARD_THREADS>(tile + FORWARD_ROWS * LINE, y, column, columns, piece, pieces);
        cp_async_commit();
    };

    const uint32_t lane_x = stages + warp_id() * 32 * LINE + lane_row_a();
    const uint32_t lane_y = stages + FORWARD_ROWS * LINE + lane_row_b();
    fetch(0, begin, 0, 0);
    int stage = 0, parity = 0;
    for (int column = begin; column < end; column += FORWARD_COLUMNS, parity ^= 1) {
        float s[2][FORWARD_COLUMNS / 8][4] = {};
        for (int piece = 0; piece < pieces; piece++, stage ^= 1) {
            cp_async_wait<0>();
            __syncthreads();
            const bool last = piece + 1 == pieces;
            if (!last || column + FORWARD_COLUMNS < end) {
                fetch(stage ^ 1, last ? column + FORWARD_COLUMNS : column, last ? 0 : piece + 1, parity ^ 1);
            }
            multiply_piece(s, lane_x + stage * FORWARD_STAGE, lane_y + stage * FORWARD_STAGE);
        }
        if (first_slot < min(end, column + FORWARD_COLUMNS)) {
#pragma unroll
            for (int n = 0; n < FORWARD_COLUMNS / 8; n++) {
                const uint2 pair = labels[parity][n * 4 + lane_id() % 4];
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    if ((e == 0 ? pair.x : pair.y) != EMPTY) continue;
#pragma unroll
                    for (int m = 0; m < 2; m++) s[m][n][e] = s[m][n][2 + e] = -INFINITY;
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int m = i / 2, half = i % 2 * 2;
            const int self = lane_row + 8 * i + shift;
            float top = stats[i].max;
#pragma unroll
            for (int n = 0; n < FORWARD_COLUMNS / 8; n++) {
                const uint2 pair = labels[parity][n * 4 + lane_id() % 4];
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int c = column + n * 8 + lane_id() % 4 * 2 + e;
                    float &t = s[m][n][half + e];
                    const bool counted = c < end && c != self;
                    if (counted && (e == 0 ? pair.x : pair.y) == label[i]) {
                        stats[i].positive += t;
                        stats[i].count += 1.0f;
                    }
                    t = counted ? t * scale : -INFINITY;
                    top = fmaxf(top, t);
                }
            }
            const float base = RowStats::finite(top);
            float sum = stats[i].sum * exp2_approx(stats[i].max - base);
#pragma unroll
            for (int n = 0; n < FORWARD_COLUMNS / 8; n++) {
                sum += exp2_approx(s[m][n][half] - base) + exp2_approx(s[m][n][half + 1] - base);
            }
            stats[i].sum = sum;
            stats[i].max = top;
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int distance = 1; distance < 4; distance *= 2) {
            RowStats other;
            other.max = __shfl_xor_sync(FULL_WARP, stats[i].max, distance);
            other.sum = __shfl_xor_sync(FULL_WARP, stats[i].sum, distance);
            other.positive = __shfl_xor_sync(FULL_WARP, stats[i].positive, distance);
            other.count = __shfl_xor_sync(FULL_WARP, stats[i].count, distance);
            stats[i].merge(other);
        }
        const int r = lane_row + 8 * i;
        if (lane_id() % 4 == 0 && r < rows) {
            partial[static_cast<size_t>(blockIdx.y) * rows + r] =
                make_float4(stats[i].max, stats[i].sum, stats[i].positive, stats[i].count);
        }
    }
}

/// Merges the splits of each row, in order: `lse [rows]`, `weight [rows]` = 1/P (0 without positives); `losses
/// [blocks]`, one sum per 256.
extern "C" __global__ void __launch_bounds__(256)
    contrastive_rows(float *lse, float *weight, double *losses, const float4 *partial, int rows, int splits,
                     float inverse_temperature) {
    const int row = blockIdx.x * 256 + threadIdx.x;
    double loss = 0.0;
    if (row < rows) {
        RowStats stats = {-INFINITY, 0.0f, 0.0f, 0.0f};
        for (int split = 0; split < splits; split++) {
            const float4 part = partial[static_cast<size_t>(split) * rows + row];
            stats.merge({part.x, part.y, part.z, part.w});
        }
        // An anchor alone has Σ = 0 and the log-sum-exp −∞, as on the CPU.
        const double log_sum = static_cast<double>(RowStats::finite(stats.max)) * 0.69314718055994531 + logf(stats.sum);
        lse[row] = static_cast<float>(log_sum);
        weight[row] = stats.count > 0.0f ? __fdiv_rn(1.0f, stats.count) : 0.0f;
        if (stats.count > 0.0f) {
            loss = log_sum - static_cast<double>(stats.positive) / stats.count * inverse_temperature;
        }
    }
    const double total = block_sum_f64<8>(loss);
    if (threadIdx.x == 0) losses[blockIdx.x] = total;
}

// ---- backward: 128 rows × 64 columns per tile, a warp has 16 whole rows
// ------------------------------------------------------------------ Its coefficients G are then the A fragments of
// G·y, in the registers they were computed in.

constexpr int BACKWARD_ROWS = 128;
constexpr int BACKWARD_COLUMNS = 64;
constexpr int BACKWARD_THREADS = 256;
constexpr int X_SLOTS = 3;
constexpr int X_TILE = BACKWARD_ROWS * LINE;
constexpr int Y_TILE = BACKWARD_COLUMNS * LINE;

/// What a coefficient needs to know of a row or column: its label, its log-sum-exp (log2; +∞ takes its softmax out),
/// its 1/P.
struct Side {
    uint32_t label;
    float lse, weight;
};

DEVICE Side side_of(const uint32_t *labels, const float *lse, const float *weight, int i, int count) {
    Side side = {labels[min(i, count - 1)], INFINITY, 0.0f};
    if (i < count) {
        side.weight = weight[i];
        // A weight of 0 marks a row without positives; a NaN must not pass for one.
        if (!(side.weight == 0.0f)) side.lse = lse[i] * LOG2_E;
    }
    return side;
}

/// Grid (row tiles, splits, ⌈pieces/OWN⌉). Adds up G·y over the split's `tiles` column tiles for the OWN pieces of d
/// numbered by blockIdx.z, times `factor`, into `out [splits, rows, d]`.
///
/// The pieces of a tile come in an order that ends with the own ones: their y is then still in shared memory for the
/// second product. Copies run two pieces ahead: y has OWN + 2 slots, x three.
template <int OWN>
DEVICE void backward(float *out, const uint4 *x, const uint4 *y, const uint32_t *row_labels, const float *row_lse,
                     const float *row_weight, const uint32_t *column_labels, const float *column_lse,
                     const float *column_weight, const uint32_t *slot_labels, int rows, int columns, int first_slot,
                     int shift, int pieces, int tiles, int d, float scale, float factor) {
    constexpr int Y_SLOTS = OWN + 2;
    __shared__ Side column_sides[2][BACKWARD_COLUMNS];
    const uint32_t x_slots = shared_address(shared), y_slots = x_slots + X_SLOTS * X_TILE;
    const int row = blockIdx.x * BACKWARD_ROWS;
    const int begin = blockIdx.y * tiles * BACKWARD_COLUMNS;
    const int end = min(columns, begin + tiles * BACKWARD_COLUMNS);
    const int own_begin = blockIdx.z * OWN, own_end = min(pieces, own_begin + OWN), own = own_end - own_begin;
    const int lane_row = row + warp_id() * 16 + lane_id() / 4;
    const Side row_side[2] = {side_of(row_labels, row_lse, row_weight, lane_row, rows),
                              side_of(row_labels, row_lse, row_weight, lane_row + 8, rows)};

    // The next piece to copy: its tile and place in the tile's order, and the slots it goes to.
    int copy_column = begin, copy_place = 0, copy_x = 0, copy_y = 0;
    auto fetch = [&] {
        if (copy_column < end) {
            const int turned = own_end + copy_place, piece = turned < pieces ? turned : turned - pieces;
            copy_piece<BACKWARD_ROWS, BACKWARD_THREADS>(x_slots + copy_x * X_TILE, x, row, rows, piece, pieces);
            copy_piece<BACKWARD_COLUMNS, BACKWARD_THREADS>(y_slots + copy_y * Y_TILE, y, copy_column, columns, piece,
                                                           pieces);
            copy_x = copy_x + 1 == X_SLOTS ? 0 : copy_x + 1;
            copy_y = copy_y + 1 == Y_SLOTS ? 0 : copy_y + 1;
            if (++copy_place == pieces) {
                copy_place = 0;
                copy_column += BACKWARD_COLUMNS;
            }
        }
        cp_async_commit();
    };
    auto column_side = [&](int column) {
        const int own = min(column + static_cast<int>(threadIdx.x) % BACKWARD_COLUMNS, columns);
        if (own < first_slot || first_slot == columns) {
            return side_of(column_labels, column_lse, column_weight, own, first_slot);
        }
        return Side{slot_labels[min(own, columns - 1) - first_slot], INFINITY, 0.0f};
    };

    float sum[OWN * 4][4] = {};
    Side next_side = column_side(begin);
    fetch();
    fetch();
    int x_slot = 0, y_slot = 0, parity = 0;
    for (int column = begin; column < end; column += BACKWARD_COLUMNS, parity ^= 1) {
        if (threadIdx.x < BACKWARD_COLUMNS) {
            column_sides[parity][threadIdx.x] = next_side;
            next_side = column_side(column + BACKWARD_COLUMNS);
        }
        float s[1][BACKWARD_COLUMNS / 8][4] = {};
        for (int place = 0; place < pieces; place++) {
            cp_async_wait<1>();
            __syncthreads();
            fetch();
            multiply_piece(s, x_slots + x_slot * X_TILE + warp_id() * 16 * LINE + lane_row_a(),
                           y_slots + y_slot * Y_TILE + lane_row_b());
            x_slot = x_slot + 1 == X_SLOTS ? 0 : x_slot + 1;
            y_slot = y_slot + 1 == Y_SLOTS ? 0 : y_slot + 1;
        }
        if (first_slot < min(end, column + BACKWARD_COLUMNS)) {
#pragma unroll
            for (int n = 0; n < BACKWARD_COLUMNS / 8; n++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    if (column_sides[parity][n * 8 + lane_id() % 4 * 2 + e].label != EMPTY) continue;
                    s[0][n][e] = s[0][n][2 + e] = -INFINITY;
                }
            }
        }

        // Columns beyond the end multiply rows of zeros, so that only the anchor itself must be masked.
        uint32_t high[BACKWARD_COLUMNS / 16][4], low[BACKWARD_COLUMNS / 16][4];
#pragma unroll
        for (int n = 0; n < BACKWARD_COLUMNS / 8; n++) {
            float g[4];
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int within = n * 8 + lane_id() % 4 * 2 + e;
                const Side other = column_sides[parity][within];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const Side &mine = row_side[half];
                    const float t = s[0][n][2 * half + e] * scale;
                    const float q = exp2_approx(t - mine.lse) + exp2_approx(t - other.lse);
                    const float p = mine.label == other.label ? mine.weight + other.weight : 0.0f;
                    const bool self = column + within == lane_row + 8 * half + shift;
                    g[2 * half + e] = self ? 0.0f : q - p;
                }
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint32_t word = pack<bf16>(g[2 * half], g[2 * half + 1]);
                const float2 rounded = unpack<bf16>(word);
                high[n / 2][n % 2 * 2 + half] = word;
                low[n / 2][n % 2 * 2 + half] = pack<bf16>(g[2 * half] - rounded.x, g[2 * half + 1] - rounded.y);
            }
        }

        int slot = y_slot >= own ? y_slot - own : y_slot - own + Y_SLOTS;
#pragma unroll
        for (int piece = 0; piece < OWN; piece++) {
            if (piece < own) {
                const uint32_t lane_y = y_slots + slot * Y_TILE + lane_row_a();
                slot = slot + 1 == Y_SLOTS ? 0 : slot + 1;
#pragma unroll
                for (int k = 0; k < BACKWARD_COLUMNS / 16; k++) {
#pragma unroll
                    for (int n = 0; n < 4; n += 2) {
                        float(&left)[4] = sum[piece * 4 + n], (&right)[4] = sum[piece * 4 + n + 1];
                        uint32_t b_high[4], b_low[4];
                        ldmatrix_x4_trans(b_high, (lane_y ^ n * 16) + k * 16 * LINE);
                        ldmatrix_x4_trans(b_low, (lane_y ^ (64 + n * 16)) + k * 16 * LINE);
                        mma<bf16>(left, low[k], b_high[0], b_high[1]);
                        mma<bf16>(right, low[k], b_high[2], b_high[3]);
                        mma<bf16>(left, high[k], b_low[0], b_low[1]);
                        mma<bf16>(right, high[k], b_low[2], b_low[3]);
                        mma<bf16>(left, high[k], b_high[0], b_high[1]);
                        mma<bf16>(right, high[k], b_high[2], b_high[3]);
                    }
                }
            }
        }
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = lane_row + 8 * half;
        if (r >= rows) continue;
        float *line = out + (static_cast<size_t>(blockIdx.y) * rows + r) * d;
#pragma unroll
        for (int n = 0; n < OWN * 4; n++) {
            const int column = own_begin * PIECE + n * 8 + lane_id() % 4 * 2;
            const float first = sum[n][2 * half] * factor, second = sum[n][2 * half + 1] * factor;
            if (d % 2 == 0) {
                if (column < d) *reinterpret_cast<float2 *>(line + column) = make_float2(first, second);
            } else {
                if (column < d) line[column] = first;
                if (column + 1 < d) line[column + 1] = second;
            }
        }
    }
}

EXPORT(EMPTY, EMPTY)
EXPORT(PIECE, PIECE)
EXPORT(LINE, LINE)
EXPORT(FORWARD_TILE, FORWARD_ROWS, FORWARD_COLUMNS)
EXPORT(FORWARD_THREADS, FORWARD_THREADS)
EXPORT(FORWARD_SHARED, 2 * FORWARD_STAGE)
EXPORT(BACKWARD_TILE, BACKWARD_ROWS, BACKWARD_COLUMNS)
EXPORT(BACKWARD_THREADS, BACKWARD_THREADS)
EXPORT(X_SLOTS, X_SLOTS)

#define BACKWARD(NAME, OWN)                                                                                          \
    extern "C" __global__ void __launch_bounds__(BACKWARD_THREADS, 1)                                                \
        NAME(float *out, const uint4 *x, const uint4 *y, const uint32_t *row_labels, const float *row_lse,           \
             const float *row_weight, const uint32_t *column_labels, const float *column_lse,                        \
             const float *column_weight, const uint32_t *OR_NULL slot_labels, int rows, int columns, int first_slot, \
             int shift, int pieces, int tiles, int d, float scale, float factor) {                                   \
        backward<OWN>(out, x, y, row_labels, row_lse, row_weight, column_labels, column_lse, column_weight,          \
                      slot_labels, rows, columns, first_slot, shift, pieces, tiles, d, scale, factor);               \
    }
BACKWARD(contrastive_backward_d128, 4)
BACKWARD(contrastive_backward_d256, 8)

/// `out [count]` = factor·Σ over splits of `partial [splits, count]`, in order.
extern "C" __global__ void __launch_bounds__(256)
    contrastive_gradient(float *out, const float *partial, int count, int splits, float factor) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    float sum = 0.0f;
    for (int split = 0; split < splits; split++) sum += partial[static_cast<size_t>(split) * count + i];
    out[i] = sum * factor;
}
