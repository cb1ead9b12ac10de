// Multi-head self-attention for training: O = softmax(Q·Kᵀ/√d)·V per image and head, and its gradient. Portable version
// (sm_80 and newer).
//
// qkv, dqkv [N, T, 3, G, d] bf16; out, dout [N, Q, G, d] bf16; lse, delta [N, G, Q] f32; d is 32 or 64; the first Q
// tokens ask; with `causal` token t sees tokens 0..=t. All bf16 buffers aligned to 16 bytes.
//
//   forward   S = Q·Kᵀ/√d, P = softmax(S), O = P·V, lse = log Σ exp S
//   backward  P = exp(S − lse), dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P∘(dP − delta)/√d with delta = rowsum(dO∘O), dQ = dS·K, dK
//             = dSᵀ·Q
//
// A warp owns 16 rows of one side and keeps them as fragments; the block streams the other side through two stages of
// shared memory, 64 rows at a time. P and dS go from accumulators to operands in registers. Forward and dQ own queries
// and stream keys; dK and dV own keys and stream queries, in other blocks of the same launch, so nothing is added up
// across blocks and every gradient has one order of summation. The price is S and dP twice: 7 products instead of 5.
// The blocks of one image and head follow each other in the grid and find the streamed side in L2.
//
// FLOPs: 4·N·G·Q·T·d forward, 10·N·G·Q·T·d counted (14 done) backward. Bytes from HBM: qkv + out forward; 2·qkv + 3·out
// backward (delta reads out and dout once more). Forward is bound by HBM at 197 tokens, backward by the products.
#include "common/reduce.cuh"
#include "common/tile.cuh"

namespace {

constexpr int CHUNK = 64;         // rows streamed per stage
// 8 warps, 128 query or key rows per block; two blocks per multiprocessor leave 128 registers per thread
constexpr int MAX_THREADS = 256;

extern __shared__ __align__(128) unsigned char shared_memory[];

/// Where the parts of one image and head begin, and how far apart their tokens are.
template <int DIM> struct Pair {
    size_t q, k, v, out, per_query;
    int stride, out_stride;

    DEVICE Pair(int index, int tokens, int queries, int heads) {
        const int image = index / heads, head = index % heads;
        const int width = heads * DIM;
        stride = 3 * width;
        out_stride = width;
        q = size_t(image) * tokens * stride + head * DIM;
        k = q + width;
        v = k + width;
        out = size_t(image) * queries * width + head * DIM;
        per_query = size_t(index) * queries;
    }
};

/// c += a·tileᵀ for the 16 tile rows from `row`: 16 × 16 products over a whole row's width.
template <int DIM>
DEVICE void multiply_transposed(float (&c)[2][4], const uint32_t (&a)[DIM / 16][4], uint32_t tile, int row, int lane) {
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
        uint32_t b[4];
        Tile<DIM>::load_b_transposed(b, tile, row, step, lane);
        mma<bf16>(c[0], a[step], b[0], b[1]);
        mma<bf16>(c[1], a[step], b[2], b[3]);
    }
}

/// The same with the 16 rows of a taken from the tile `a` as they are needed.
template <int DIM> DEVICE void multiply_transposed(float (&c)[2][4], uint32_t a, uint32_t tile, int row, int lane) {
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
        uint32_t left[4], b[4];
        Tile<DIM>::load_a(left, a, 0, step, lane);
        Tile<DIM>::load_b_transposed(b, tile, row, step, lane);
        mma<bf16>(c[0], left, b[0], b[1]);
        mma<bf16>(c[1], left, b[2], b[3]);
    }
}

/// c += a·tile with k the 16 tile rows from `row`.
template <int DIM>
DEVICE void multiply(float (&c)[DIM / 8][4], const uint32_t (&a)[4], uint32_t tile, int row, int lane) {
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
        uint32_t b[4];
        Tile<DIM>::load_b(b, tile, row, step, lane);
        mma<bf16>(c[2 * step], a, b[0], b[1]);
        mma<bf16>(c[2 * step + 1], a, b[2], b[3]);
    }
}

/// Two neighbouring 16×8 accumulators as the A fragment of a 16×16 operand.
DEVICE void as_operand(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
    a[0] = pack<bf16>(left[0], left[1]);
    a[1] = pack<bf16>(left[2], left[3]);
    a[2] = pack<bf16>(right[0], right[1]);
    a[3] = pack<bf16>(right[2], right[3]);
}

/// Rounds a chunk's rows up to what the products of 16 touch.
DEVICE int chunk_rows(int first, int end) { return min(CHUNK, round_up(end - first, 16)); }

// ------------------------------------------------------------------------------------------------------------- forward

template <int DIM>
DEVICE void forward(bf16 *out, float *lse, const bf16 *qkv, int tokens, int queries, int heads, int causal,
                    float scale) {
    using Rows = Tile<DIM>;
    constexpr int STAGE = 2 * CHUNK * Rows::ROW_BYTES;  // keys, then values
    const int lane = lane_id(), g = lane >> 2, t = lane & 3;
    const int block_rows = blockDim.x / 2;
    const int blocks = ceil_div(queries, block_rows);
    const Pair<DIM> pair(blockIdx.x / blocks, tokens, queries, heads);
    const int block_row = (blockIdx.x % blocks) * block_rows, row = block_row + warp_id() * 16;
    const bf16 *k = qkv + pair.k, *v = qkv + pair.v;
    const int keys = causal ? min(tokens, block_row + block_rows) : tokens;  // the block's last query sees no more
    const int chunks = ceil_div(keys, CHUNK);

    const uint32_t stages = shared_address(shared_memory);
    unsigned char *own = shared_memory + 2 * STAGE + warp_id() * 16 * Rows::ROW_BYTES;
    auto fetch = [&](int chunk) {
        const uint32_t stage = stages + (chunk & 1) * STAGE;
        const int first = chunk * CHUNK, count = chunk_rows(first, keys);
        Rows::copy_rows(stage, k, pair.stride, first, count, tokens, threadIdx.x, blockDim.x);
        Rows::copy_rows(stage + STAGE / 2, v, pair.stride, first, count, tokens, threadIdx.x, blockDim.x);
        cp_async_commit();
    };
    Rows::copy_rows(shared_address(own), qkv + pair.q, pair.stride, row, 16, queries, lane, 32);
    fetch(0);

    const float scale_log2 = scale * LOG2_E;
    uint32_t q[DIM / 16][4];
    float o[DIM / 8][4] = {};
    // of rows g and g + 8; totals of this thread's columns only
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    for (int chunk = 0; chunk < chunks; chunk++) {
        cp_async_wait<0>();
        __syncthreads();  // the chunk is there for all, and all are done with the one before
        if (chunk + 1 < chunks) fetch(chunk + 1);
        const int first = chunk * CHUNK;
        if (row >= queries || (causal && first > row + 15)) continue;
        if (chunk == 0) {
#pragma unroll
            for (int step = 0; step < DIM / 16; step++) Rows::load_a(q[step], shared_address(own), 0, step, lane);
        }
        const uint32_t key_tile = stages + (chunk & 1) * STAGE, value_tile = key_tile + STAGE / 2;
        const int count = chunk_rows(first, keys);

        float s[CHUNK / 16][2][4];
#pragma unroll
        for (int part = 0; part < CHUNK / 16; part++) {
            if (part * 16 < count) {
#pragma unroll
                for (int i = 0; i < 8; i++) s[part][i / 4][i % 4] = 0.0f;
                multiply_transposed<DIM>(s[part], q, key_tile, part * 16, lane);
            } else {
#pragma unroll
                for (int i = 0; i < 8; i++) s[part][i / 4][i % 4] = -INFINITY;
            }
        }
        if (first + count > tokens || (causal && first + CHUNK > row)) {
#pragma unroll
            for (int part = 0; part < CHUNK / 16; part++) {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const int key = first + part * 16 + (i / 4) * 8 + 2 * t + (i & 1),
                              query = row + g + ((i >> 1) & 1) * 8;
                    if (key >= tokens || (causal && key > query)) s[part][i / 4][i % 4] = -INFINITY;
                }
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = top[half];
#pragma unroll
            for (int j = 0; j < CHUNK / 8; j++)
                most = fmaxf(most, fmaxf(s[j / 2][j % 2][2 * half], s[j / 2][j % 2][2 * half + 1]));
            most = warp_max<4>(most);  // finite: every query sees key 0
            const float shift = most * scale_log2, rescale = exp2_approx(top[half] * scale_log2 - shift);
            top[half] = most;
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < CHUNK / 8; j++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    s[j / 2][j % 2][i] = exp2_approx(fmaf(s[j / 2][j % 2][i], scale_log2, -shift));
                    sum += s[j / 2][j % 2][i];
                }
            }
            total[half] = total[half] * rescale + sum;
#pragma unroll
            for (int j = 0; j < DIM / 8; j++) o[j][2 * half] *= rescale, o[j][2 * half + 1] *= rescale;
        }
#pragma unroll
        for (int part = 0; part < CHUNK / 16; part++) {
            if (part * 16 < count) {
                uint32_t p[4];
                as_operand(p, s[part][0], s[part][1]);
                multiply<DIM>(o, p, value_tile, part * 16, lane);
            }
        }
    }
    if (row >= queries) return;

    total[0] = warp_sum<4>(total[0]);
    total[1] = warp_sum<4>(total[1]);
    __syncwarp();  // the warp's queries were read from where its output goes
    Rows::store_accumulators(own, o, 1.0f / total[0], 1.0f / total[1], lane);
    __syncwarp();
    Rows::write_rows(out + pair.out + size_t(row) * pair.out_stride, pair.out_stride, own, min(16, queries - row),
                     lane);
    if (t == 0) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = row + g + 8 * half;
            if (query < queries)
                lse[pair.per_query + query] = (top[half] * scale_log2 + log2_approx(total[half])) * LN_2;
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ backward

/// delta[n, g, q] = Σ_d out·dout; d/8 neighbouring lanes per row.
template <int DIM>
DEVICE void delta_rows(float *delta, const bf16 *out, const bf16 *dout, int images, int queries, int heads) {
    constexpr int LANES = DIM / 8;
    const size_t row = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) / LANES, rows = size_t(images) * queries * heads;
    float sum = 0.0f;
    if (row < rows) {
        const size_t at = row * DIM + (threadIdx.x % LANES) * 8;
        float x[8], y[8];
        load(out + at, x);
        load(dout + at, y);
#pragma unroll
        for (int i = 0; i < 8; i++) sum = fmaf(x[i], y[i], sum);
    }
    sum = warp_sum<LANES>(sum);
    if (row < rows && threadIdx.x % LANES == 0) {
        const size_t head = row % heads, query = row / heads % queries, image = row / heads / queries;
        delta[(image * heads + head) * queries + query] = sum;
    }
}

/// dK and dV of a block's keys (`KEYS`), or dQ of its queries. The own side is (K, V) or (Q, dO) in fragments `x`, `y`;
/// the streamed side is (Q, dO) or (K, V) as tiles `u`, `w`. With rows own and columns streamed, S = x·uᵀ and dP = y·wᵀ
/// in both roles (their transposes for keys); dK or dQ = dS·u and dV = P·w.
template <int DIM, bool KEYS>
DEVICE void backward_role(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta,
                          const Pair<DIM> &pair, int block_row, int tokens, int queries, int causal, float scale) {
    using Rows = Tile<DIM>;
    constexpr int TILE = CHUNK * Rows::ROW_BYTES;
    constexpr int STAGE = 2 * TILE + 2 * CHUNK * sizeof(float);  // u, w; lse and delta of streamed queries
    const int lane = lane_id(), g = lane >> 2, t = lane & 3;
    const int row = block_row + warp_id() * 16, block_rows = blockDim.x / 2;
    const int own_end = KEYS ? tokens : queries, end = KEYS ? queries : tokens;

    const uint32_t stages = shared_address(shared_memory);
    unsigned char *own = shared_memory + 2 * STAGE + warp_id() * 2 * 16 * Rows::ROW_BYTES;  // x, y; then results
    const uint32_t own_x = shared_address(own), own_y = own_x + 16 * Rows::ROW_BYTES;
    const bf16 *own_first = qkv + (KEYS ? pair.k : pair.q), *own_second = KEYS ? qkv + pair.v : dout + pair.out;
    const bf16 *first_source = qkv + (KEYS ? pair.q : pair.k), *second_source = KEYS ? dout + pair.out : qkv + pair.v;
    const int own_second_stride = KEYS ? pair.stride : pair.out_stride,
              second_stride = KEYS ? pair.out_stride : pair.stride;

    // Causal: keys meet queries from their own position on, queries keys up to it.
    const int begin_chunk = KEYS && causal ? block_row / CHUNK : 0;
    const int stream_end = !KEYS && causal ? min(end, block_row + block_rows) : end;
    const int end_chunk = block_row < own_end ? ceil_div(stream_end, CHUNK) : 0;
    auto fetch = [&](int chunk) {
        const uint32_t stage = stages + (chunk & 1) * STAGE;
        const int first = chunk * CHUNK, count = chunk_rows(first, stream_end);
        Rows::copy_rows(stage, first_source, pair.stride, first, count, end, threadIdx.x, blockDim.x);
        Rows::copy_rows(stage + TILE, second_source, second_stride, first, count, end, threadIdx.x, blockDim.x);
        if (KEYS) {
            for (int i = threadIdx.x; i < 2 * count; i += blockDim.x) {
                const int query = first + i / 2;
                const float *from = (i & 1 ? delta : lse) + pair.per_query;
                const bool inside = query < queries;
                cp_async<4>(stage + 2 * TILE + i * 4, inside ? from + query : from, inside ? 4 : 0);
            }
        }
        cp_async_commit();
    };

    float first_sum[DIM / 8][4] = {}, second_sum[KEYS ? DIM / 8 : 1][4] = {};
    // the two sums of keys leave no room: they read theirs at each use
    uint32_t x[KEYS ? 1 : DIM / 16][4], y[KEYS ? 1 : DIM / 16][4];
    float own_lse[2], own_delta[2];  // of queries g and g + 8, in units of log2
    if (!KEYS) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = row + g + 8 * half;
            // exp2(−inf): P = 0 past the end.
            own_lse[half] = query < queries ? lse[pair.per_query + query] * LOG2_E : INFINITY;
            own_delta[half] = query < queries ? delta[pair.per_query + query] : 0.0f;
        }
    }
    if (begin_chunk < end_chunk) {
        Rows::copy_rows(own_x, own_first, pair.stride, row, 16, own_end, lane, 32);
        Rows::copy_rows(own_y, own_second, own_second_stride, row, 16, own_end, lane, 32);
        fetch(begin_chunk);
    }
    const float scale_log2 = scale * LOG2_E;
    for (int chunk = begin_chunk; chunk < end_chunk; chunk++) {
        cp_async_wait<0>();
        __syncthreads();  // the chunk is there for all, and all are done with the one before
        if (chunk + 1 < end_chunk) fetch(chunk + 1);
        if (row >= own_end) continue;
        if constexpr (!KEYS) {
            if (chunk == begin_chunk) {
#pragma unroll
                for (int step = 0; step < DIM / 16; step++) {
                    Rows::load_a(x[step], own_x, 0, step, lane);
                    Rows::load_a(y[step], own_y, 0, step, lane);
                }
            }
        }
        const uint32_t u = stages + (chunk & 1) * STAGE, w = u + TILE;
        const float2 *statistics = reinterpret_cast<const float2 *>(shared_memory + (chunk & 1) * STAGE + 2 * TILE);
        const int first = chunk * CHUNK, count = chunk_rows(first, stream_end);
#pragma unroll 1
        for (int part = 0; part < count; part += 16) {
            const int column = first + part;  // of the streamed side
            if (causal && (KEYS ? column + 15 < row : column > row + 15)) continue;
            float s[2][4] = {}, dp[2][4] = {};
            if constexpr (KEYS) {
                multiply_transposed<DIM>(s, own_x, u, part, lane);
                multiply_transposed<DIM>(dp, own_y, w, part, lane);
            } else {
                multiply_transposed<DIM>(s, x, u, part, lane);
                multiply_transposed<DIM>(dp, y, w, part, lane);
            }
            const bool edge = column + 16 > end || (causal && (KEYS ? column < row + 15 : column + 15 > row));
#pragma unroll
            for (int j = 0; j < 2; j++) {
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    const int at = 8 * j + 2 * t + side;
                    const float2 streamed = KEYS ? statistics[part + at] : make_float2(0.0f, 0.0f);
                    const float streamed_lse = streamed.x * LOG2_E;
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const int i = 2 * half + side;
                        float p = exp2_approx(fmaf(s[j][i], scale_log2, -(KEYS ? streamed_lse : own_lse[half])));
                        if (edge) {
                            const int mine = row + g + 8 * half, other = column + at;
                            if (other >= end || (causal && (KEYS ? mine > other : other > mine))) p = 0.0f;
                        }
                        s[j][i] = p;
                        dp[j][i] = p * (dp[j][i] - (KEYS ? streamed.y : own_delta[half]));
                    }
                }
            }
            uint32_t a[4];
            as_operand(a, dp[0], dp[1]);
            multiply<DIM>(first_sum, a, u, part, lane);
            if constexpr (KEYS) {
                as_operand(a, s[0], s[1]);
                multiply<DIM>(second_sum, a, w, part, lane);
            }
        }
    }
    if (row >= tokens) return;
    // A warp whose rows took part in nothing (tokens that do not ask, keys that no asking token sees) writes zeros.
    const int count = min(16, tokens - row);
    const size_t at = size_t(row) * pair.stride;
    __syncwarp();
    Rows::store_accumulators(own, first_sum, scale, scale, lane);
    if constexpr (KEYS) Rows::store_accumulators(own + 16 * Rows::ROW_BYTES, second_sum, 1.0f, 1.0f, lane);
    __syncwarp();
    Rows::write_rows(dqkv + (KEYS ? pair.k : pair.q) + at, pair.stride, own, count, lane);
    if constexpr (KEYS) Rows::write_rows(dqkv + pair.v + at, pair.stride, own + 16 * Rows::ROW_BYTES, count, lane);
}

template <int DIM>
DEVICE void backward(bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int tokens,
                     int queries, int heads, int causal, float scale) {
    const int block_rows = blockDim.x / 2, blocks = ceil_div(tokens, block_rows);
    const int block = blockIdx.x % (2 * blocks);
    const Pair<DIM> pair(blockIdx.x / (2 * blocks), tokens, queries, heads);
    if (block < blocks) {
        backward_role<DIM, true>(dqkv, dout, qkv, lse, delta, pair, block * block_rows, tokens, queries, causal, scale);
    } else {
        backward_role<DIM, false>(dqkv, dout, qkv, lse, delta, pair, (block - blocks) * block_rows, tokens, queries,
                                  causal, scale);
    }
}

}  // namespace

// Grid of forward: N·G·⌈Q / rows⌉ blocks with rows = threads / 2; of backward: N·G·2·⌈T / rows⌉. Dynamic shared memory:
// see the host's plan.
#define SELF_ATTENTION(DIM)                                                                                           \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2) self_attention_forward_d##DIM(                       \
        bf16 *out, float *lse, const bf16 *qkv, int tokens, int queries, int heads, int causal, float scale) {        \
        forward<DIM>(out, lse, qkv, tokens, queries, heads, causal, scale);                                           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS) self_attention_delta_d##DIM(                            \
        float *delta, const bf16 *out, const bf16 *dout, int images, int queries, int heads) {                        \
        delta_rows<DIM>(delta, out, dout, images, queries, heads);                                                    \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2) self_attention_backward_d##DIM(                      \
        bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta, int tokens, int queries, \
        int heads, int causal, float scale) {                                                                         \
        backward<DIM>(dqkv, dout, qkv, lse, delta, tokens, queries, heads, causal, scale);                            \
    }

SELF_ATTENTION(32)
SELF_ATTENTION(64)

EXPORT(CHUNK, CHUNK)
EXPORT(MAX_WARPS, MAX_THREADS / 32)
