// Gradient of multi-head self-attention on Hopper, up to 208 tokens. Buffers and formulas as in self_attention.cu: 5
// products, one pass.
//
// One block per multiprocessor walks over images and heads. A warpgroup of helpers moves data: a warp loads, one
// stores, two compute delta and pad lse. Two warpgroups compute. All Q and dO of a head lie in shared memory (two
// stages, so the next head's arrive meanwhile); K and V come in chunks of 64 keys through a ring of three: one is
// computed, one's results leave, one arrives. For each chunk:
//   1. each warpgroup, for its tiles of 64 queries: S = Q·Kᵀ and dP = dO·Vᵀ (wgmma), from them P and dS, written to
//      shared memory as bf16;
//   2. once both have written: dQ += dS·K of its own tiles, in accumulators that live until the last chunk, and the
//      first makes dV = Pᵀ·dO of the chunk, the second dK = dSᵀ·Q, over all queries. P, dS, dO, Q and K are read
//      MN-major where the product wants them transposed.
//   3. Once both have read: dV and dK go where the chunk's V and K lay, and from there to memory.
// In step 1 one warpgroup's products run during the other's exponentials.
// Every gradient is one chain of additions in one block. dQ goes where Q lay. TMA fills tokens past the end with zeros
// and drops their results. Tokens that do not ask have P = 0 and hence dQ = 0; tiles without any that ask are zeroed by
// the helpers. The fourth tile of queries has only 16 rows of its own (197 = 3·64 + 5): wgmma reads 48 rows more of
// whatever lies behind them, which is never being written meanwhile, and what comes of those rows is dropped.
//
// FLOPs: 10·N·G·Q·T·d. Bytes: 2·qkv + 2·out. Bound by HBM if loads, products and exponentials overlap.
#include "common/attention_sm90.cuh"

namespace {

extern __shared__ __align__(1024) unsigned char shared_memory[];

constexpr int STAGES = 2, CHUNKS = 3;  // of queries, of keys
constexpr int OUT_ROWS = 32;           // rows of O at a time, for delta

/// mbarriers, one of each per slot. Full: landed; staged: results lie there; free: may be overwritten.
enum Barrier {
    QUERIES_FULL,
    QUERIES_STAGED,
    QUERIES_FREE,
    KEYS_FULL,
    KEYS_STAGED,
    KEYS_FREE,
    STATISTICS_FULL,
    OUT_FULL,
    BARRIERS
};
enum NamedBarrier { SCORES_WRITTEN = 1, SCORES_READ = 2, OUT_READ = 3 };

/// Shared memory of a block whose consumers have TILES tiles of queries each.
template <int DIM, int TILES> struct Layout {
    using Head = HeadTile<DIM>;
    static constexpr int QUERY_TILES = CONSUMERS * TILES;
    static constexpr int QUERY_ROWS = TILES == 1 ? 128 : 208, REST = QUERY_TILES * TILE_ROWS - QUERY_ROWS;
    // Q, then dO, then zeros that stand for the rest of dO's last tile; the rest of Q's is dO.
    static constexpr int DOUT = QUERY_ROWS * Head::ROW_BYTES, ZEROS = 2 * DOUT, STAGE = ZEROS + REST * Head::ROW_BYTES;
    static constexpr int CHUNK = 2 * Head::BYTES;                     // K, then V
    static constexpr int SCORES = QUERY_ROWS * TILE_ROWS * 2;         // dS or P of a chunk: [queries][64 keys]
    static constexpr int KEYS_AT = STAGES * STAGE, DS_AT = KEYS_AT + CHUNKS * CHUNK;
    static constexpr int P_AT = DS_AT + SCORES;                       // also the rest of dS's last tile
    static constexpr int OUT_AT = P_AT + SCORES, STATISTICS_AT = OUT_AT + OUT_ROWS * Head::ROW_BYTES;
    static constexpr int BARRIERS_AT = STATISTICS_AT + STAGES * 2 * QUERY_TILES * TILE_ROWS * 4;
    static constexpr int BYTES = BARRIERS_AT + BARRIERS * CHUNKS * 8;
    static_assert(BYTES <= 232448, "more shared memory than a block can have");

    uint32_t base;
    DEVICE Layout() : base(shared_address(shared_memory)) {}
    DEVICE uint32_t q(int slot) const { return base + slot * STAGE; }
    DEVICE uint32_t dout(int slot) const { return q(slot) + DOUT; }
    DEVICE uint32_t k(int slot) const { return base + KEYS_AT + slot * CHUNK; }
    DEVICE uint32_t v(int slot) const { return k(slot) + Head::BYTES; }
    DEVICE uint32_t p() const { return base + P_AT; }
    DEVICE uint32_t ds() const { return base + DS_AT; }
    DEVICE uint32_t out() const { return base + OUT_AT; }
    DEVICE uint32_t barrier(int slot, Barrier which) const { return base + BARRIERS_AT + (which * CHUNKS + slot) * 8; }
    /// lse, in units of log2, of a stage's queries; delta follows.
    static DEVICE float *statistics(int slot) {
        return reinterpret_cast<float *>(shared_memory + STATISTICS_AT) + slot * 2 * QUERY_TILES * TILE_ROWS;
    }
};

/// What does not change from head to head.
struct Problem {
    int pairs, tokens, queries, heads, causal;
    float scale;

    DEVICE int chunks() const { return ceil_div(tokens, TILE_ROWS); }
};

template <int DIM, int TILES>
DEVICE void load_all(const Problem &problem, const TensorMap *queries, const TensorMap *dout, const TensorMap *qkv) {
    const Layout<DIM, TILES> shared;
    Position stage, chunk;
    for (int pair = blockIdx.x; pair < problem.pairs; pair += gridDim.x, stage.next(STAGES)) {
        const int image = pair / problem.heads, head = pair % problem.heads;
        const uint32_t full = shared.barrier(stage.slot, QUERIES_FULL);
        mbarrier_wait(shared.barrier(stage.slot, QUERIES_FREE), stage.parity ^ 1);
        mbarrier_arrive_expect_tx(full, 2 * shared.DOUT);
        tma_load(shared.q(stage.slot), queries, full, 0, head, 0, image);
        tma_load(shared.dout(stage.slot), dout, full, 0, head, 0, image);
        for (int i = 0; i < problem.chunks(); i++, chunk.next(CHUNKS)) {
            const uint32_t landed = shared.barrier(chunk.slot, KEYS_FULL);
            mbarrier_wait(shared.barrier(chunk.slot, KEYS_FREE), chunk.parity ^ 1);
            mbarrier_arrive_expect_tx(landed, shared.CHUNK);
            tma_load(shared.k(chunk.slot), qkv, landed, 0, problem.heads + head, i * TILE_ROWS, image);
            tma_load(shared.v(chunk.slot), qkv, landed, 0, 2 * problem.heads + head, i * TILE_ROWS, image);
        }
    }
}

template <int DIM, int TILES> DEVICE void store_all(const Problem &problem, const TensorMap *dqkv) {
    using Head = HeadTile<DIM>;
    const Layout<DIM, TILES> shared;
    Position stage, chunk;
    for (int pair = blockIdx.x; pair < problem.pairs; pair += gridDim.x, stage.next(STAGES)) {
        const int image = pair / problem.heads, head = pair % problem.heads;
        for (int i = 0; i < problem.chunks(); i++, chunk.next(CHUNKS)) {
            mbarrier_wait(shared.barrier(chunk.slot, KEYS_STAGED), chunk.parity);
            tma_store(dqkv, shared.k(chunk.slot), 0, problem.heads + head, i * TILE_ROWS, image);
            tma_store(dqkv, shared.v(chunk.slot), 0, 2 * problem.heads + head, i * TILE_ROWS, image);
            tma_store_commit();
            tma_store_wait_read<0>();
            mbarrier_arrive(shared.barrier(chunk.slot, KEYS_FREE));
        }
        mbarrier_wait(shared.barrier(stage.slot, QUERIES_STAGED), stage.parity);
        for (int i = 0; i < min(shared.QUERY_TILES, problem.chunks()); i++) {
            tma_store(dqkv, shared.q(stage.slot) + i * Head::BYTES, 0, head, i * TILE_ROWS, image);
        }
        tma_store_commit();
        tma_store_wait_read<0>();
        mbarrier_arrive(shared.barrier(stage.slot, QUERIES_FREE));
    }
    tma_store_wait<0>();
}

/// sum + x·y over the pairs of two words.
DEVICE float add_products(float sum, uint32_t x, uint32_t y) {
    const float2 a = unpack<bf16>(x), b = unpack<bf16>(y);
    return fmaf(a.y, b.y, fmaf(a.x, b.x, sum));
}

/// Two warps: delta = rowsum(dO∘O) with two threads per query, lse in units of log2 (+∞ past the last query, so that P
/// is 0), and zeros for dQ of tiles that have no query.
template <int DIM, int TILES>
DEVICE void prepare_all(const Problem &problem, const TensorMap *out, const float *lse, bf16 *dqkv, int thread) {
    using Head = HeadTile<DIM>;
    using Rows = Tile<DIM>;
    const Layout<DIM, TILES> shared;
    const uint32_t landed = shared.barrier(0, OUT_FULL);
    uint32_t parity = 0;
    Position stage;
    for (int pair = blockIdx.x; pair < problem.pairs; pair += gridDim.x, stage.next(STAGES)) {
        const int image = pair / problem.heads, head = pair % problem.heads;
        auto load_out = [&](int first) {
            if (thread == 0 && first < problem.queries) {
                mbarrier_arrive_expect_tx(landed, OUT_ROWS * Head::ROW_BYTES);
                tma_load(shared.out(), out, landed, 0, head, first, image);
            }
        };
        load_out(0);
        const int idle_from = shared.QUERY_TILES * TILE_ROWS * Rows::PIECES;
        for (int i = idle_from + thread; i < problem.tokens * Rows::PIECES; i += 2 * 32) {
            const size_t token = size_t(image) * problem.tokens + i / Rows::PIECES;
            bf16 *idle = dqkv + (token * 3 * problem.heads + head) * DIM + i % Rows::PIECES * 8;
            *reinterpret_cast<uint4 *>(idle) = make_uint4(0, 0, 0, 0);
        }
        // With this the head before last is done, its statistics too.
        mbarrier_wait(shared.barrier(stage.slot, QUERIES_FULL), stage.parity);
        float *statistics = shared.statistics(stage.slot);
        for (int first = 0; first < shared.QUERY_TILES * TILE_ROWS; first += OUT_ROWS) {
            const int row = thread / 2, query = first + row;
            float delta = 0.0f;
            if (first < problem.queries) {
                mbarrier_wait(landed, parity);
                parity ^= 1;
                const unsigned char *outputs = shared_memory + shared.OUT_AT;
                const unsigned char *gradients =
                    shared_memory + stage.slot * shared.STAGE + shared.DOUT + first * Head::ROW_BYTES;
#pragma unroll 1
                for (int piece = thread % 2; piece < Rows::PIECES; piece += 2) {
                    const int at = Rows::offset(row, piece);
                    const uint4 x = *reinterpret_cast<const uint4 *>(outputs + at),
                                y = *reinterpret_cast<const uint4 *>(gradients + at);
                    delta = add_products(add_products(add_products(add_products(delta, x.x, y.x), x.y, y.y), x.z, y.z),
                                         x.w, y.w);
                }
                delta += __shfl_xor_sync(FULL_WARP, delta, 1);
                named_barrier_sync(OUT_READ, 2 * 32);
                load_out(first + OUT_ROWS);
            }
            if (thread % 2 == 0) {
                statistics[query] =
                    query < problem.queries ? lse[size_t(pair) * problem.queries + query] * LOG2_E : INFINITY;
            } else {
                statistics[shared.QUERY_TILES * TILE_ROWS + query] = delta;
            }
        }
        warp_arrive(shared.barrier(stage.slot, STATISTICS_FULL));
    }
}

/// A consumer warpgroup's state within a head: its tiles are consumer, consumer + 2.
template <int DIM, int TILES> struct Consumer {
    using Head = HeadTile<DIM>;
    using Shared = Layout<DIM, TILES>;
    const Problem &problem;
    const Shared shared;
    const int consumer, row, lane;  // row: the warp's first of a tile
    float dq[TILES][DIM / 2];
    float lse[TILES][2], delta[TILES][2];  // of rows g and g + 8

    DEVICE Consumer(const Problem &problem, int warp)
        : problem(problem), consumer(warp / 4), row(warp % 4 * 16), lane(lane_id()) {}

    DEVICE void take_statistics(int slot) {
        const float *statistics = Shared::statistics(slot);
#pragma unroll
        for (int i = 0; i < TILES; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int query = (consumer + CONSUMERS * i) * TILE_ROWS + row + (lane >> 2) + 8 * half;
                lse[i][half] = statistics[query];
                delta[i][half] = statistics[Shared::QUERY_TILES * TILE_ROWS + query];
            }
        }
    }

    /// Step 1 for tile i, once S and dP are there: P and dS to shared memory.
    template <int KEYS> DEVICE void scores(int i, float (&s)[KEYS / 2], float (&dp)[KEYS / 2], int first_key) {
        const int first = (consumer + CONSUMERS * i) * TILE_ROWS + row, t = lane & 3;
        const float scale_log2 = problem.scale * LOG2_E;
#pragma unroll
        for (int j = 0; j < KEYS / 2; j++) s[j] = exp2_approx(fmaf(s[j], scale_log2, -lse[i][(j >> 1) & 1]));
        if (first_key + KEYS > problem.tokens || problem.causal) {
#pragma unroll
            for (int j = 0; j < KEYS / 2; j++) {
                const int key = first_key + 8 * (j / 4) + 2 * t + (j & 1),
                          query = first + (lane >> 2) + 8 * ((j >> 1) & 1);
                if (key >= problem.tokens || (problem.causal && key > query)) s[j] = 0.0f;
            }
        }
        uint32_t a[KEYS / 16][4];
        if (first < problem.queries) {
            as_operands<KEYS>(a, s);
            write_operands<TILE_ROWS>(shared.p(), first, a, lane);
        }
#pragma unroll
        for (int j = 0; j < KEYS / 2; j++) dp[j] = s[j] * (dp[j] - delta[i][(j >> 1) & 1]);
        as_operands<KEYS>(a, dp);
        if (first < Shared::QUERY_ROWS) write_operands<TILE_ROWS>(shared.ds(), first, a, lane);
    }

    /// One chunk: KEYS of its 64 keys are computed, the others are past the end.
    template <int KEYS> DEVICE void chunk(int stage, int slot, int first_key) {
        using Scores = HeadTile<TILE_ROWS>;
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            const int at = (consumer + CONSUMERS * i) * Head::BYTES;
            float s[KEYS / 2], dp[KEYS / 2];
            wgmma_pin(s);
            wgmma_pin(dp);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < DIM / 16; step++) {
                wgmma_ss<KEYS, K_MAJOR, K_MAJOR>(s, Head::operand(shared.q(stage) + at + 32 * step),
                                                 Head::operand(shared.k(slot) + 32 * step), step > 0);
            }
#pragma unroll
            for (int step = 0; step < DIM / 16; step++) {
                wgmma_ss<KEYS, K_MAJOR, K_MAJOR>(dp, Head::operand(shared.dout(stage) + at + 32 * step),
                                                 Head::operand(shared.v(slot) + 32 * step), step > 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
            wgmma_pin(s);
            wgmma_pin(dp);
            scores<KEYS>(i, s, dp, first_key);
        }
        fence_async_shared();
        named_barrier_sync(SCORES_WRITTEN, 128 * CONSUMERS);

        float sum[DIM / 2];
        const uint32_t left = consumer == 0 ? shared.p() : shared.ds(),
                       right = consumer == 0 ? shared.dout(stage) : shared.q(stage);
        const int steps = ceil_div(problem.queries, 16);
        wgmma_pin(sum);
#pragma unroll
        for (int i = 0; i < TILES; i++) wgmma_pin(dq[i]);
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            const uint32_t ds = shared.ds() + (consumer + CONSUMERS * i) * Scores::BYTES;
#pragma unroll
            for (int step = 0; step < KEYS / 16; step++) {
                wgmma_ss<DIM, K_MAJOR, MN_MAJOR>(dq[i], Scores::operand(ds + 32 * step),
                                                 Head::operand(shared.k(slot) + step * 16 * Head::ROW_BYTES),
                                                 step > 0 || first_key > 0);
            }
        }
        auto multiply = [&](int step, uint32_t accumulate) {
            wgmma_ss<DIM, MN_MAJOR, MN_MAJOR>(sum, Scores::operand(left + step * 16 * Scores::ROW_BYTES),
                                              Head::operand(right + step * 16 * Head::ROW_BYTES), accumulate);
        };
        wgmma_commit();
        multiply(0, 0);
        wgmma_commit();
#pragma unroll 1
        for (int step = 1; step < steps; step++) {
            wgmma_fence();
            multiply(step, 1);
            wgmma_commit();
        }
        wgmma_wait<0>();
        wgmma_pin(sum);
#pragma unroll
        for (int i = 0; i < TILES; i++) wgmma_pin(dq[i]);
        named_barrier_sync(SCORES_READ, 128 * CONSUMERS);
        const float factor = consumer == 0 ? 1.0f : problem.scale;
        write_accumulators<DIM>(consumer == 0 ? shared.v(slot) : shared.k(slot), row, sum, factor, factor, lane);
        fence_async_shared();
        warp_arrive(shared.barrier(slot, KEYS_STAGED));
    }

    DEVICE void all() {
        Position stage, slot;
        for (int pair = blockIdx.x; pair < problem.pairs; pair += gridDim.x, stage.next(STAGES)) {
            mbarrier_wait(shared.barrier(stage.slot, STATISTICS_FULL), stage.parity);
            take_statistics(stage.slot);
            mbarrier_wait(shared.barrier(stage.slot, QUERIES_FULL), stage.parity);
            for (int first_key = 0; first_key < problem.tokens; first_key += TILE_ROWS, slot.next(CHUNKS)) {
                mbarrier_wait(shared.barrier(slot.slot, KEYS_FULL), slot.parity);
                if (first_key > 0 && problem.tokens - first_key <= 16) {  // 197 = 3·64 + 5
                    chunk<16>(stage.slot, slot.slot, first_key);
                } else {
                    chunk<64>(stage.slot, slot.slot, first_key);
                }
            }
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                const int first = (consumer + CONSUMERS * i) * TILE_ROWS + row;
                if (first < Shared::QUERY_ROWS)
                    write_accumulators<DIM>(shared.q(stage.slot), first, dq[i], problem.scale, problem.scale, lane);
            }
            fence_async_shared();
            warp_arrive(shared.barrier(stage.slot, QUERIES_STAGED));
        }
    }
};

template <int DIM, int TILES>
DEVICE void backward(const Problem &problem, const TensorMap *dqkv_map, const TensorMap *dout, const TensorMap *queries,
                     const TensorMap *qkv, const TensorMap *out, bf16 *dqkv, const float *lse) {
    const Layout<DIM, TILES> shared;
    for (int slot = 0; slot < STAGES; slot++) {
        for (int at = shared.ZEROS + threadIdx.x * 16; at < shared.STAGE; at += THREADS * 16) {
            *reinterpret_cast<uint4 *>(shared_memory + slot * shared.STAGE + at) = make_uint4(0, 0, 0, 0);
        }
    }
    fence_async_shared();
    if (threadIdx.x == 0) {
        for (int slot = 0; slot < CHUNKS; slot++) {
            for (Barrier one : {QUERIES_FULL, QUERIES_FREE, KEYS_FULL, KEYS_FREE, OUT_FULL})
                mbarrier_init(shared.barrier(slot, one), 1);
            for (Barrier each : {QUERIES_STAGED, KEYS_STAGED})
                mbarrier_init(shared.barrier(slot, each), CONSUMER_WARPS);
            mbarrier_init(shared.barrier(slot, STATISTICS_FULL), 2);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    const int warp = warp_id(), lane = lane_id();
    if (warp < 4) {
        decrease_registers<PRODUCER_REGISTERS>();
        if (warp == 0) {
            if (lane == 0) load_all<DIM, TILES>(problem, queries, dout, qkv);
        } else if (warp == 1) {
            if (lane == 0) store_all<DIM, TILES>(problem, dqkv_map);
        } else {
            prepare_all<DIM, TILES>(problem, out, lse, dqkv, threadIdx.x - 2 * 32);
        }
    } else {
        increase_registers<CONSUMER_REGISTERS>();
        Consumer<DIM, TILES>(problem, warp - 4).all();
    }
}

}  // namespace

// Grid: at most one block per multiprocessor. TILES: 1 for at most 128 queries, 2 for at most 208 tokens. Dynamic
// shared memory: Layout::BYTES. Boxes of the maps: dqkv_map and qkv 64 tokens, queries (of qkv too) and dout all
// QUERY_ROWS, out OUT_ROWS.
#define SELF_ATTENTION_BACKWARD(DIM, TILES)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) self_attention_backward_sm90_d##DIM##_t##TILES(       \
        const __grid_constant__ TensorMap dqkv_map, const __grid_constant__ TensorMap dout,                        \
        const __grid_constant__ TensorMap queries_map, const __grid_constant__ TensorMap qkv,                      \
        const __grid_constant__ TensorMap out, bf16 *dqkv, const float *lse, int pairs, int tokens, int queries,   \
        int heads, int causal, float scale) {                                                                      \
        backward<DIM, TILES>({pairs, tokens, queries, heads, causal, scale}, &dqkv_map, &dout, &queries_map, &qkv, \
                             &out, dqkv, lse);                                                                     \
    }

SELF_ATTENTION_BACKWARD(64, 1)
SELF_ATTENTION_BACKWARD(64, 2)
SELF_ATTENTION_BACKWARD(32, 1)
SELF_ATTENTION_BACKWARD(32, 2)

EXPORT(OUT_ROWS, OUT_ROWS)
// For one tile of queries of a warpgroup, and for two; of shared memory for heads of 32, then of 64.
EXPORT(QUERY_ROWS, Layout<64, 1>::QUERY_ROWS, Layout<64, 2>::QUERY_ROWS)
EXPORT(SHARED, Layout<32, 1>::BYTES, Layout<32, 2>::BYTES, Layout<64, 1>::BYTES, Layout<64, 2>::BYTES)
