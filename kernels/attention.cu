// Fused attention of inference: Y = softmax(Q·Kᵀ/√d)·V per image and head. Portable version (sm_80 and newer).
//
// Tokens lie `stride` values apart, heads d apart within a token: q, k, v may be parts of packed rows. y [N, queries,
// G·d]. f16 or bf16; d a multiple of 8; every address and stride a multiple of 16 bytes. Any number of queries and
// keys.
//
//   forward   self-attention, or causal: query i sees keys 0..=i. For d ≤ 160 by the smallest of the widths 40, 64, 80,
//             160 that holds d; what is missing in a row is zero. d = 40 is native: k = 16 + 16 + 8 in the first
//             product, 40 columns in the second.
//   wide      the same for d ≤ 512 (the one head of the image decoder), not causal
//   cross     up to 128 keys, the same for many rows: row n uses context which[n] of kv [contexts, keys, 2·G·d] (k,
//             then v), and the queries of image n mod q_rows, so that one set of queries serves both branches of
//             guidance
//
// forward: a warp owns 32 or 16 queries as fragments, its block streams keys and values through two stages of shared
// memory; scores, softmax (online, see common/softmax.cuh) and P stay in registers. cross: keys and values of a head
// stay in shared memory, a warp streams its queries 16 at a time through two buffers of its own; with all scores of a
// row in registers the softmax is one pass. wide: see there. P is rounded to the storage type, sums are f32, 1/sum
// comes last. A row's bits depend on its image alone: keys are taken from 0 on, in steps that depend on d only.
//
// FLOPs 4·N·G·queries·keys·d, exponentials N·G·queries·keys, bytes q + k + v + y once (keys come again from L2 for each
// block of queries).
#include "common/reduce.cuh"
#include "common/softmax.cuh"
#include "common/tile.cuh"

namespace {

constexpr int MAX_WARPS = 4;

extern __shared__ __align__(128) unsigned char shared_memory[];

/// Tokens of one image and head.
template <typename T> struct Head {
    T *at;
    int stride;
};
template <typename T> DEVICE Head<T> head_of(T *tokens, int stride, int image, int count, int head, int d) {
    return {tokens + size_t(image) * count * stride + head * d, stride};
}

/// Words of 16 rows × DIM as A operands: steps of 16, and of a tail of 8 the first two words of one more.
template <int DIM> using Operand = uint32_t[ceil_div(DIM, 16)][4];

template <typename T, int DIM> DEVICE void load_operand(Operand<DIM> &a, uint32_t tile, int row, int lane) {
    using Rows = Tile<DIM, T>;
#pragma unroll
    for (int step = 0; step < Rows::STEPS; step++) Rows::load_a(a[step], tile, row, step, lane);
    if constexpr (Rows::TAIL) {
        uint32_t tail[2];
        Rows::load_tail(tail, tile, row, lane);
        a[Rows::STEPS][0] = tail[0], a[Rows::STEPS][1] = tail[1];
    }
}

/// s = q·keysᵀ for TILES × 16 queries and KEYS rows of the tile.
template <typename T, int DIM, int TILES, int KEYS>
DEVICE void scores(float (&s)[TILES][KEYS / 8][4], const Operand<DIM> (&q)[TILES], uint32_t keys, int lane) {
    using Rows = Tile<DIM, T>;
#pragma unroll
    for (int m = 0; m < TILES; m++) {
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) s[m][i / 4][i % 4] = 0.0f;
    }
#pragma unroll
    for (int part = 0; part < KEYS / 16; part++) {
#pragma unroll
        for (int step = 0; step < Rows::STEPS; step++) {
            uint32_t b[4];
            Rows::load_b_transposed(b, keys, part * 16, step, lane);
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                mma<T>(s[m][2 * part], q[m][step], b[0], b[1]);
                mma<T>(s[m][2 * part + 1], q[m][step], b[2], b[3]);
            }
        }
        if constexpr (Rows::TAIL) {
            uint32_t b[2];
            Rows::load_tail(b, keys, part * 16, lane);
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                mma_k8<T>(s[m][2 * part], q[m][Rows::STEPS][0], q[m][Rows::STEPS][1], b[0]);
                mma_k8<T>(s[m][2 * part + 1], q[m][Rows::STEPS][0], q[m][Rows::STEPS][1], b[1]);
            }
        }
    }
}

/// o += p·values, with p rounded to T.
template <typename T, int DIM, int TILES, int KEYS>
DEVICE void weigh(float (&o)[TILES][DIM / 8][4], const float (&p)[TILES][KEYS / 8][4], uint32_t values, int lane) {
    using Rows = Tile<DIM, T>;
#pragma unroll
    for (int part = 0; part < KEYS / 16; part++) {
        uint32_t a[TILES][4];
#pragma unroll
        for (int m = 0; m < TILES; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float(&pair)[4] = p[m][2 * part + i / 2];
                a[m][i] = pack<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
            }
        }
#pragma unroll
        for (int step = 0; step < Rows::STEPS; step++) {
            uint32_t b[4];
            Rows::load_b(b, values, part * 16, step, lane);
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                mma<T>(o[m][2 * step], a[m], b[0], b[1]);
                mma<T>(o[m][2 * step + 1], a[m], b[2], b[3]);
            }
        }
        if constexpr (Rows::TAIL) {
            uint32_t b[2];
            Rows::load_b_tail(b, values, part * 16, lane);
#pragma unroll
            for (int m = 0; m < TILES; m++) mma<T>(o[m][DIM / 8 - 1], a[m], b[0], b[1]);
        }
    }
}

/// The largest score of row g + 8·half among this lane's and its three neighbours' columns.
template <int COLUMNS> DEVICE float row_max(const float (&s)[COLUMNS / 8][4], int half) {
    float most = fmaxf(s[0][2 * half], s[0][2 * half + 1]);
#pragma unroll
    for (int j = 1; j < COLUMNS / 8; j++) most = fmaxf(most, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
    return warp_max<4>(most);
}

/// s of row g + 8·half to 2^(s·scale − shift); returns the sum over this lane's columns.
template <int COLUMNS> DEVICE float exponentials(float (&s)[COLUMNS / 8][4], int half, float scale, float shift) {
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
            s[j][i] = exp2_approx(fmaf(s[j][i], scale, -shift));
            sum += s[j][i];
        }
    }
    return sum;
}

// ------------------------------------------------------------------------------------------------------------- forward

template <typename T, int DIM, int TILES, int KEYS>
DEVICE void forward(T *y, const T *q, const T *k, const T *v, int queries, int keys, int heads, int d, int q_stride,
                    int k_stride, int v_stride, int causal, float scale) {
    using Rows = Tile<DIM, T>;
    constexpr int WARP_ROWS = 16 * TILES, STAGE = 2 * KEYS * Rows::ROW_BYTES;  // keys, then values
    const int lane = lane_id(), g = lane >> 2, t = lane & 3, pieces = d / 8;
    const int block_rows = blockDim.x / 32 * WARP_ROWS, blocks = ceil_div(queries, block_rows);
    const int head = blockIdx.x % heads, block = blockIdx.x / heads % blocks, image = blockIdx.x / heads / blocks;
    const int block_row = block * block_rows, row = block_row + warp_id() * WARP_ROWS;
    const Head<const T> own = head_of(q, q_stride, image, queries, head, d),
                        key = head_of(k, k_stride, image, keys, head, d),
                        value = head_of(v, v_stride, image, keys, head, d);
    const Head<T> out = head_of(y, heads * d, image, queries, head, d);
    const int end = causal ? min(keys, block_row + block_rows) : keys;  // the block's last query sees no more
    const int steps = ceil_div(end, KEYS);

    const uint32_t stages = shared_address(shared_memory);
    unsigned char *const own_tile = shared_memory + 2 * STAGE + warp_id() * WARP_ROWS * Rows::ROW_BYTES;
    auto fetch = [&](int step) {
        const uint32_t stage = stages + (step & 1) * STAGE;
        Rows::copy_rows(stage, key.at, key.stride, step * KEYS, KEYS, end, threadIdx.x, blockDim.x, pieces);
        Rows::copy_rows(stage + STAGE / 2, value.at, value.stride, step * KEYS, KEYS, end, threadIdx.x, blockDim.x,
                        pieces);
        cp_async_commit();
    };
    Rows::copy_rows(shared_address(own_tile), own.at, own.stride, row, WARP_ROWS, queries, lane, 32, pieces);
    fetch(0);

    const float scale_log2 = scale * LOG2_E;
    Operand<DIM> operand[TILES];
    float o[TILES][DIM / 8][4] = {};
    float shift[TILES][2], total[TILES][2] = {};  // of rows g and g + 8; totals of this lane's columns only
#pragma unroll
    for (int m = 0; m < TILES; m++) shift[m][0] = shift[m][1] = -INFINITY;
    for (int step = 0; step < steps; step++) {
        cp_async_wait<0>();
        __syncthreads();  // the step's rows are there for all, and all are done with those before
        if (step + 1 < steps) fetch(step + 1);
        const int first = step * KEYS;
        if (row >= queries || (causal && first >= row + WARP_ROWS)) continue;
        if (step == 0) {
#pragma unroll
            for (int m = 0; m < TILES; m++) load_operand<T, DIM>(operand[m], shared_address(own_tile), 16 * m, lane);
        }
        const uint32_t key_tile = stages + (step & 1) * STAGE, value_tile = key_tile + STAGE / 2;
        float s[TILES][KEYS / 8][4];
        scores<T, DIM, TILES, KEYS>(s, operand, key_tile, lane);
        if (first + KEYS > end || (causal && first + KEYS > row + 1)) {
#pragma unroll
            for (int m = 0; m < TILES; m++) {
#pragma unroll
                for (int i = 0; i < KEYS / 2; i++) {
                    const int column = first + i / 4 * 8 + 2 * t + (i & 1),
                              mine = row + 16 * m + g + ((i >> 1) & 1) * 8;
                    if (column >= keys || (causal && column > mine)) s[m][i / 4][i % 4] = -INFINITY;
                }
            }
        }
        float rescale[TILES][2];
        bool moved = false;
#pragma unroll
        for (int m = 0; m < TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float most = row_max<KEYS>(s[m], half);  // finite in the first step: every query sees key 0
                rescale[m][half] = move_shift(shift[m][half], most * scale_log2);
                moved |= rescale[m][half] != 1.0f;
                total[m][half] =
                    total[m][half] * rescale[m][half] + exponentials<KEYS>(s[m], half, scale_log2, shift[m][half]);
            }
        }
        if (__any_sync(FULL_WARP, moved)) {
#pragma unroll
            for (int m = 0; m < TILES; m++) {
#pragma unroll
                for (int i = 0; i < DIM / 2; i++) o[m][i / 4][i % 4] *= rescale[m][(i >> 1) & 1];
            }
        }
        weigh<T, DIM, TILES, KEYS>(o, s, value_tile, lane);
    }
    if (row >= queries) return;

    __syncwarp();  // the warp's queries were read from where its output goes
#pragma unroll
    for (int m = 0; m < TILES; m++) {
        const float low = warp_sum<4>(total[m][0]), high = warp_sum<4>(total[m][1]);
        Rows::store_accumulators(own_tile + 16 * m * Rows::ROW_BYTES, o[m], 1.0f / low, 1.0f / high, lane);
    }
    __syncwarp();
    Rows::write_rows(out.at + size_t(row) * out.stride, out.stride, own_tile, min(WARP_ROWS, queries - row), lane,
                     pieces);
}

// --------------------------------------------------------------------------------------------------------------- cross

template <typename T, int DIM, int KEYS>
DEVICE void cross(T *y, const T *q, const T *kv, const uint32_t *which, int queries, int keys, int heads, int d,
                  int q_stride, int q_rows, int block_rows, float scale) {
    using Rows = Tile<DIM, T>;
    const int lane = lane_id(), t = lane & 3, pieces = d / 8, width = heads * d;
    const int blocks = ceil_div(queries, block_rows);
    const int head = blockIdx.x % heads, block = blockIdx.x / heads % blocks, image = blockIdx.x / heads / blocks;
    const Head<const T> own = head_of(q, q_stride, image % q_rows, queries, head, d);
    const Head<const T> key = head_of(kv, 2 * width, int(which[image]), keys, head, d);
    const Head<T> out = head_of(y, width, image, queries, head, d);
    const int end = min(queries, (block + 1) * block_rows), stride = blockDim.x / 32 * 16;

    const uint32_t key_tile = shared_address(shared_memory), value_tile = key_tile + KEYS * Rows::ROW_BYTES;
    unsigned char *const own_tiles = shared_memory + 2 * KEYS * Rows::ROW_BYTES + warp_id() * 2 * 16 * Rows::ROW_BYTES;
    auto own_tile = [&](int turn) { return own_tiles + (turn & 1) * 16 * Rows::ROW_BYTES; };
    auto fetch = [&](int row, int turn) {
        if (row < end)
            Rows::copy_rows(shared_address(own_tile(turn)), own.at, own.stride, row, 16, end, lane, 32, pieces);
        cp_async_commit();
    };
    int row = block * block_rows + warp_id() * 16;
    Rows::copy_rows(key_tile, key.at, key.stride, 0, KEYS, keys, threadIdx.x, blockDim.x, pieces);
    Rows::copy_rows(value_tile, key.at + width, key.stride, 0, KEYS, keys, threadIdx.x, blockDim.x, pieces);
    fetch(row, 0);
    cp_async_wait<0>();
    __syncthreads();

    const float scale_log2 = scale * LOG2_E;
    for (int turn = 0; row < end; row += stride, turn++) {
        fetch(row + stride, turn + 1);
        cp_async_wait<1>();
        __syncwarp();
        Operand<DIM> operand[1];
        load_operand<T, DIM>(operand[0], shared_address(own_tile(turn)), 0, lane);
        float s[1][KEYS / 8][4], o[1][DIM / 8][4] = {}, inverse[2];
        scores<T, DIM, 1, KEYS>(s, operand, key_tile, lane);
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            if (i / 4 * 8 + 2 * t + (i & 1) >= keys) s[0][i / 4][i % 4] = -INFINITY;
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float shift = row_max<KEYS>(s[0], half) * scale_log2;
            inverse[half] = 1.0f / warp_sum<4>(exponentials<KEYS>(s[0], half, scale_log2, shift));
        }
        weigh<T, DIM, 1, KEYS>(o, s, value_tile, lane);
        __syncwarp();  // the queries were read from where the output goes
        Rows::store_accumulators(own_tile(turn), o[0], inverse[0], inverse[1], lane);
        __syncwarp();
        Rows::write_rows(out.at + size_t(row) * out.stride, out.stride, own_tile(turn), min(16, end - row), lane,
                         pieces);
        __syncwarp();  // before the next queries land there
    }
}

// ---------------------------------------------------------------------------------------------------------------- wide

/// 32 queries of one head per block of 16 warps. The first product is cut along d: a warp has 16 queries and 128 of
/// their values as operands, and 16 of a step's 32 keys pass; the four parts of a score meet in shared memory, where 16
/// threads have a row's softmax. The second product is cut along the columns: a warp makes 32 columns of all 32 rows,
/// so that each value is read once. Keys of the next step arrive during the softmax and the second product, values
/// during the first.
template <typename T> struct Wide {
    static constexpr int DIM = 512, ROWS = 32, KEYS = 32, WARPS = 16, SLICE = 128, COLUMNS = DIM / WARPS;
    static constexpr int PARTS = DIM / SLICE, PITCH = KEYS + 8;  // floats; rows of float2 stores spread over the banks
    using Rows = Tile<DIM, T>;
    using Probabilities = Tile<KEYS, T>;
    static constexpr int VALUES_AT = KEYS * Rows::ROW_BYTES, PARTS_AT = 2 * VALUES_AT;
    static constexpr int PROBABILITIES_AT = PARTS_AT + PARTS * ROWS * PITCH * 4;
    static constexpr int RESCALE_AT = PROBABILITIES_AT + ROWS * Probabilities::ROW_BYTES;
};

template <typename T>
DEVICE void wide(T *y, const T *q, const T *k, const T *v, int queries, int keys, int heads, int d, int q_stride,
                 int k_stride, int v_stride, float scale) {
    using W = Wide<T>;
    using Rows = typename W::Rows;
    const int lane = lane_id(), warp = warp_id(), g = lane >> 2, t = lane & 3, pieces = d / 8;
    const int blocks = ceil_div(queries, W::ROWS);
    const int head = blockIdx.x % heads, row = blockIdx.x / heads % blocks * W::ROWS,
              image = blockIdx.x / heads / blocks;
    const Head<T> out = head_of(y, heads * d, image, queries, head, d);

    const uint32_t key_tile = shared_address(shared_memory), value_tile = key_tile + W::VALUES_AT;
    const uint32_t probabilities = key_tile + W::PROBABILITIES_AT;
    float *const parts = reinterpret_cast<float *>(shared_memory + W::PARTS_AT);
    float *const rescales = reinterpret_cast<float *>(shared_memory + W::RESCALE_AT);
    auto fetch = [&](uint32_t tile, const T *tokens, int stride, int count, int first) {
        const Head<const T> from = head_of(tokens, stride, image, count, head, d);
        Rows::copy_rows(tile, from.at, from.stride, first, 32, count, threadIdx.x, 32 * W::WARPS, pieces);
        cp_async_commit();
    };
    fetch(value_tile, q, q_stride, queries, row);  // where values come later
    fetch(key_tile, k, k_stride, keys, 0);
    cp_async_wait<1>();
    __syncthreads();
    // of queries, values, keys of the first product
    const int half = warp & 1, slice = warp >> 1 & 3, part = warp >> 3;
    uint32_t operand[W::SLICE / 16][4];
#pragma unroll
    for (int step = 0; step < W::SLICE / 16; step++)
        Rows::load_a(operand[step], value_tile, 16 * half, W::SLICE / 16 * slice + step, lane);

    const float scale_log2 = scale * LOG2_E;
    // this thread's row in the softmax, and the first of its two keys
    const int mine = threadIdx.x / 16, column = threadIdx.x % 16 * 2;
    float shift = -INFINITY, total = 0.0f;
    float o[2][W::COLUMNS / 8][4] = {};
    for (int first = 0; first < keys; first += W::KEYS) {
        cp_async_wait<0>();
        __syncthreads();  // keys are there; all are done with the values before
        fetch(value_tile, v, v_stride, keys, first);
        float s[2][4] = {};
#pragma unroll
        for (int step = 0; step < W::SLICE / 16; step++) {
            uint32_t b[4];
            Rows::load_b_transposed(b, key_tile, part * 16, W::SLICE / 16 * slice + step, lane);
            mma<T>(s[0], operand[step], b[0], b[1]);
            mma<T>(s[1], operand[step], b[2], b[3]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = (slice * W::ROWS + 16 * half + g + i % 2 * 8) * W::PITCH + part * 16 + i / 2 * 8 + 2 * t;
            *reinterpret_cast<float2 *>(parts + at) = make_float2(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
        }
        __syncthreads();  // all parts are there, and all are done with the keys
        fetch(key_tile, k, k_stride, keys, first + W::KEYS);

        float p[2] = {};
#pragma unroll
        for (int i = 0; i < W::PARTS; i++) {
            float pair[2];
            load(parts + (i * W::ROWS + mine) * W::PITCH + column, pair);
            p[0] += pair[0], p[1] += pair[1];
        }
        if (first + column >= keys) p[0] = -INFINITY;
        if (first + column + 1 >= keys) p[1] = -INFINITY;
        const float rescale = move_shift(shift, warp_max<16>(fmaxf(p[0], p[1])) * scale_log2);
#pragma unroll
        for (int i = 0; i < 2; i++) p[i] = exp2_approx(fmaf(p[i], scale_log2, -shift));
        total = total * rescale + (p[0] + p[1]);
        unsigned char *const to =
            shared_memory + W::PROBABILITIES_AT + W::Probabilities::offset(mine, column / 8) + column % 8 * 2;
        *reinterpret_cast<uint32_t *>(to) = pack<T>(p[0], p[1]);
        if (column == 0) rescales[mine] = rescale;
        cp_async_wait<1>();
        __syncthreads();  // values and probabilities are there

        float factor[4];
#pragma unroll
        for (int i = 0; i < 4; i++) factor[i] = rescales[g + 8 * i];
        if (__any_sync(FULL_WARP, factor[0] != 1.0f || factor[1] != 1.0f || factor[2] != 1.0f || factor[3] != 1.0f)) {
#pragma unroll
            for (int i = 0; i < W::COLUMNS; i++) o[i / 16][i % 16 / 4][i % 4] *= factor[i / 16 * 2 + ((i >> 1) & 1)];
        }
#pragma unroll
        for (int k = 0; k < W::KEYS / 16; k++) {
            uint32_t a[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++) W::Probabilities::load_a(a[m], probabilities, 16 * m, k, lane);
#pragma unroll
            for (int step = 0; step < W::COLUMNS / 16; step++) {
                uint32_t b[4];
                Rows::load_b(b, value_tile, k * 16, W::COLUMNS / 16 * warp + step, lane);
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    mma<T>(o[m][2 * step], a[m], b[0], b[1]);
                    mma<T>(o[m][2 * step + 1], a[m], b[2], b[3]);
                }
            }
        }
    }
    cp_async_wait<0>();
    total = warp_sum<16>(total);
    __syncthreads();  // all are done with values and rescales
    if (column == 0) rescales[mine] = 1.0f / total;
    __syncthreads();
    // Each warp stages its columns as a tile of their own.
    using Staged = Tile<W::COLUMNS, T>;
    unsigned char *const staged = shared_memory + warp * W::ROWS * Staged::ROW_BYTES;
#pragma unroll
    for (int m = 0; m < 2; m++) {
        Staged::store_accumulators(staged + 16 * m * Staged::ROW_BYTES, o[m], rescales[16 * m + g],
                                   rescales[16 * m + g + 8], lane);
    }
    __syncwarp();
    const int first_piece = warp * Staged::PIECES;
    if (first_piece < pieces) {
        T *const to = out.at + size_t(row) * out.stride + first_piece * 8;
        Staged::write_rows(to, out.stride, staged, min(W::ROWS, queries - row), lane, pieces - first_piece);
    }
}

}  // namespace

// Grid of forward: N·⌈queries / rows⌉·G blocks of 1 to 4 warps, rows = 16·TILES per warp; of cross N·⌈queries /
// block_rows⌉·G; of wide N·⌈queries / 32⌉·G blocks of 16 warps. Dynamic shared memory: see the host's plan.
#define ATTENTION_FORWARD(TYPE, DIM, TILES, KEYS)                                                                    \
    extern "C" __global__ void __launch_bounds__(32 * MAX_WARPS) attention_forward_d##DIM##_##TYPE(                  \
        TYPE *y, const TYPE *q, const TYPE *k, const TYPE *v, int queries, int keys, int heads, int d, int q_stride, \
        int k_stride, int v_stride, int causal, float scale) {                                                       \
        forward<TYPE, DIM, TILES, KEYS>(y, q, k, v, queries, keys, heads, d, q_stride, k_stride, v_stride, causal,   \
                                        scale);                                                                      \
    }
#define ATTENTION_CROSS(TYPE, DIM, KEYS)                                                                        \
    extern "C" __global__ void __launch_bounds__(32 * MAX_WARPS) attention_cross_d##DIM##_k##KEYS##_##TYPE(     \
        TYPE *y, const TYPE *q, const TYPE *kv, const uint32_t *which, int queries, int keys, int heads, int d, \
        int q_stride, int q_rows, int block_rows, float scale) {                                                \
        cross<TYPE, DIM, KEYS>(y, q, kv, which, queries, keys, heads, d, q_stride, q_rows, block_rows, scale);  \
    }
/// Values of a head as computed, tiles of 16 queries of a warp, keys of a stage.
#define FORWARDS(KERNEL, TYPE) \
    KERNEL(TYPE, 40, 2, 64) KERNEL(TYPE, 64, 2, 64) KERNEL(TYPE, 80, 2, 32) KERNEL(TYPE, 160, 1, 32)
#define ATTENTION(TYPE)                                                                                               \
    FORWARDS(ATTENTION_FORWARD, TYPE)                                                                                 \
    ATTENTION_CROSS(TYPE, 40, 80)                                                                                     \
    ATTENTION_CROSS(TYPE, 40, 128)                                                                                    \
    ATTENTION_CROSS(TYPE, 64, 80)                                                                                     \
    ATTENTION_CROSS(TYPE, 64, 128)                                                                                    \
    ATTENTION_CROSS(TYPE, 80, 80)                                                                                     \
    ATTENTION_CROSS(TYPE, 80, 128)                                                                                    \
    ATTENTION_CROSS(TYPE, 160, 80)                                                                                    \
    ATTENTION_CROSS(TYPE, 160, 128)                                                                                   \
    extern "C" __global__ void __launch_bounds__(32 * Wide<TYPE>::WARPS)                                              \
        attention_wide_##TYPE(TYPE *y, const TYPE *q, const TYPE *k, const TYPE *v, int queries, int keys, int heads, \
                              int d, int q_stride, int k_stride, int v_stride, float scale) {                         \
        wide<TYPE>(y, q, k, v, queries, keys, heads, d, q_stride, k_stride, v_stride, scale);                         \
    }

ATTENTION(f16)
ATTENTION(bf16)

EXPORT(MAX_WARPS, MAX_WARPS)
// Values, queries of a warp, keys.
#define NUMBERS(TYPE, DIM, TILES, KEYS) DIM, 16 * TILES, KEYS,
EXPORT(FORWARDS, FORWARDS(NUMBERS, f16))
EXPORT(WIDE_ROWS, Wide<f16>::ROWS)
