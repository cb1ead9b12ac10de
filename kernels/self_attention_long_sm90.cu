// Multi-head self-attention and its gradient on Hopper for any length: what self_attention_sm90.cu and
// self_attention_backward_sm90.cu do for lengths whose heads fit shared memory. Buffers and formulas as in
// self_attention.cu.
//
// One block per multiprocessor walks over items: 128 rows of one head, 64 for each of its two computing warpgroups,
// which stay in shared memory while the other side streams past in a ring of stages. A warp of the third warpgroup
// loads through TMA, one stores, one brings statistics.
//   forward   own queries, stream 128 keys at a time, online softmax. The scores of the next keys and P·V of these run
//             on the tensor cores while the exponentials are made; P goes from registers.
//   backward  two kinds of items. Own keys, stream 64 queries: Sᵀ = K·Qᵀ, dPᵀ = V·dOᵀ, dV += Pᵀ·dO, dK += dSᵀ·Q. Own
//             queries, stream keys: S, dP, dQ += dS·K. P and dS go from registers; nothing is added up across blocks. 7
//             products instead of 5.
//
// FLOPs: 4·N·G·Q·T·d forward, 10·N·G·Q·T·d counted (14 done) backward. Bytes: qkv + out, 2·qkv + 3·out; the streamed
// side comes from L2 but for the first time. At d = 64 forward is bound by products and exponentials alike, backward by
// the products.
#include "common/attention_sm90.cuh"

namespace {

extern __shared__ __align__(1024) unsigned char shared_memory[];

constexpr int OWN_ROWS = CONSUMERS * TILE_ROWS;
constexpr int OWN_STAGES = 2, STREAM_STAGES = 4;

/// Own: what an item keeps; stream: the ring. Full: landed; staged: results lie there; free: may be overwritten.
enum Barrier { OWN_FULL, OWN_STAGED, OWN_FREE, STREAM_FULL, STREAM_FREE, BARRIERS };

/// Shared memory: OWN_TILES tiles of 64 rows per item, STREAM_TILES and STATISTICS floats per step of the ring.
template <int DIM, int OWN_TILES, int STREAM_TILES, int STATISTICS> struct Layout {
    using Head = HeadTile<DIM>;
    static constexpr int OWN_BYTES = OWN_TILES * Head::BYTES, STREAM_BYTES = STREAM_TILES * Head::BYTES;
    static constexpr int STREAM_AT = OWN_STAGES * OWN_BYTES, STATISTICS_AT = STREAM_AT + STREAM_STAGES * STREAM_BYTES;
    static constexpr int BARRIERS_AT = STATISTICS_AT + STREAM_STAGES * STATISTICS * 4;
    // forward: a word for each computing thread
    static constexpr int ANCHORS_AT = BARRIERS_AT + BARRIERS * STREAM_STAGES * 8;
    static constexpr int BYTES = ANCHORS_AT + CONSUMERS * 128 * 4;
    static_assert(BYTES <= 232448, "more shared memory than a block can have");

    uint32_t base;
    DEVICE Layout() : base(shared_address(shared_memory)) {}
    DEVICE uint32_t own(int slot, int tile) const { return base + slot * OWN_BYTES + tile * Head::BYTES; }
    DEVICE uint32_t stream(int slot, int tile) const {
        return base + STREAM_AT + slot * STREAM_BYTES + tile * Head::BYTES;
    }
    DEVICE uint32_t barrier(int slot, Barrier which) const {
        return base + BARRIERS_AT + (which * STREAM_STAGES + slot) * 8;
    }
    DEVICE uint32_t anchor() const { return base + ANCHORS_AT + (threadIdx.x - 128) * 4; }
    static DEVICE float *statistics(int slot) {
        return reinterpret_cast<float *>(shared_memory + STATISTICS_AT) + slot * STATISTICS;
    }

    /// `arrivals` at STREAM_FULL: the loader, and who brings statistics.
    DEVICE void init(int arrivals) const {
        if (threadIdx.x == 0) {
            for (int slot = 0; slot < STREAM_STAGES; slot++) {
                mbarrier_init(barrier(slot, STREAM_FULL), arrivals);
                mbarrier_init(barrier(slot, STREAM_FREE), CONSUMER_WARPS);
            }
            for (int slot = 0; slot < OWN_STAGES; slot++) {
                mbarrier_init(barrier(slot, OWN_FULL), 1);
                mbarrier_init(barrier(slot, OWN_STAGED), CONSUMER_WARPS);
                mbarrier_init(barrier(slot, OWN_FREE), 1);
            }
            fence_mbarrier_init();
        }
        __syncthreads();
    }
};

struct Problem {
    int pairs, tokens, queries, heads, causal;
    float scale;
};

// ------------------------------------------------------------------------------------------------------------- forward

/// 128 queries of one head, and the keys its last one sees.
struct ForwardItem {
    static constexpr int KEYS = 128;  // of a step
    int pair, first, keys, steps;

    static DEVICE int count(const Problem &p) { return p.pairs * ceil_div(p.queries, OWN_ROWS); }
    DEVICE ForwardItem(const Problem &p, int index) {
        const int blocks = ceil_div(p.queries, OWN_ROWS);
        pair = index / blocks;
        first = index % blocks * OWN_ROWS;
        keys = p.causal ? min(p.tokens, first + OWN_ROWS) : p.tokens;
        steps = ceil_div(keys, KEYS);
    }
};

template <int DIM> using ForwardLayout = Layout<DIM, CONSUMERS, 2 * ForwardItem::KEYS / TILE_ROWS, 0>;

template <int DIM> DEVICE void forward_load(const Problem &p, const TensorMap *qkv) {
    const ForwardLayout<DIM> shared;
    constexpr int TILES = ForwardItem::KEYS / TILE_ROWS;
    Position own, stream;
    for (int index = blockIdx.x; index < ForwardItem::count(p); index += gridDim.x, own.next(OWN_STAGES)) {
        const ForwardItem item(p, index);
        const int image = item.pair / p.heads, head = item.pair % p.heads;
        mbarrier_wait(shared.barrier(own.slot, OWN_FREE), own.parity ^ 1);
        const uint32_t own_full = shared.barrier(own.slot, OWN_FULL);
        mbarrier_arrive_expect_tx(own_full, shared.OWN_BYTES);
        for (int i = 0; i < CONSUMERS; i++)
            tma_load(shared.own(own.slot, i), qkv, own_full, 0, head, item.first + i * TILE_ROWS, image);
        for (int step = 0; step < item.steps; step++, stream.next(STREAM_STAGES)) {
            mbarrier_wait(shared.barrier(stream.slot, STREAM_FREE), stream.parity ^ 1);
            const uint32_t full = shared.barrier(stream.slot, STREAM_FULL);
            mbarrier_arrive_expect_tx(full, shared.STREAM_BYTES);
            for (int i = 0; i < 2 * TILES; i++) {  // keys, then values
                const int part = 1 + i / TILES, row = (step * TILES + i % TILES) * TILE_ROWS;
                tma_load(shared.stream(stream.slot, i), qkv, full, 0, part * p.heads + head, row, image);
            }
        }
    }
}

template <int DIM> DEVICE void forward_store(const Problem &p, const TensorMap *out) {
    const ForwardLayout<DIM> shared;
    Position own;
    for (int index = blockIdx.x; index < ForwardItem::count(p); index += gridDim.x, own.next(OWN_STAGES)) {
        const ForwardItem item(p, index);
        mbarrier_wait(shared.barrier(own.slot, OWN_STAGED), own.parity);
        for (int i = 0; i < CONSUMERS; i++) {
            const int row = item.first + i * TILE_ROWS;
            if (row < p.queries)
                tma_store(out, shared.own(own.slot, i), 0, item.pair % p.heads, row, item.pair / p.heads);
        }
        tma_store_commit();
        tma_store_wait_read<0>();
        mbarrier_arrive(shared.barrier(own.slot, OWN_FREE));
    }
    tma_store_wait<0>();
}

/// Scores of a step to unnormalised probabilities, by the running maximum of rows g and g + 8; `rescale` is what
/// earlier sums must be times.
template <int KEYS>
DEVICE void softmax_step(float (&s)[KEYS / 2], float (&top)[2], float (&total)[2], float (&rescale)[2],
                         float scale_log2) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = top[half];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) most = fmaxf(most, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
        most = warp_max<4>(most);  // finite: every query sees key 0
        const float shift = most * scale_log2;
        rescale[half] = exp2_approx(top[half] * scale_log2 - shift);
        top[half] = most;
        float sums[2] = {0.0f, 0.0f};
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (int side = 0; side < 2; side++) {
                const int i = 4 * j + 2 * half + side;
                s[i] = exp2_approx(fmaf(s[i], scale_log2, -shift));
                sums[side] += s[i];
            }
        }
        total[half] = total[half] * rescale[half] + (sums[0] + sums[1]);
    }
}

template <int DIM> DEVICE void forward_compute(const Problem &p, float *lse, int warp) {
    using Head = HeadTile<DIM>;
    constexpr int KEYS = ForwardItem::KEYS, VALUES_TILE = KEYS / TILE_ROWS;
    const ForwardLayout<DIM> shared;
    const int consumer = warp / 4, row = warp % 4 * 16, lane = lane_id(), g = lane >> 2, t = lane & 3;
    const float scale_log2 = p.scale * LOG2_E;
    Position own, stream;
    for (int index = blockIdx.x; index < ForwardItem::count(p); index += gridDim.x, own.next(OWN_STAGES)) {
        const ForwardItem item(p, index);
        const int first = item.first + consumer * TILE_ROWS + row;
        const uint32_t q = shared.own(own.slot, consumer);
        float s[KEYS / 2], o[DIM / 2], top[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f}, rescale[2];
        uint32_t probabilities[KEYS / 16][4];
#pragma unroll
        for (int i = 0; i < DIM / 2; i++) o[i] = 0.0f;

        auto start_scores = [&](Position at) {
            wgmma_pin(s);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < DIM / 16; step++) {
                wgmma_ss<KEYS, K_MAJOR, K_MAJOR>(s, Head::operand(q + 32 * step),
                                                 Head::operand(shared.stream(at.slot, 0) + 32 * step), step > 0);
            }
            wgmma_commit();
        };
        auto start_output = [&](Position at) {
            wgmma_pin(o);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < KEYS / 16; step++) {
                const uint32_t v = shared.stream(at.slot, VALUES_TILE) + step * 16 * Head::ROW_BYTES;
                wgmma_rs<DIM, MN_MAJOR>(o, probabilities[step], Head::operand(v), 1);
            }
            wgmma_commit();
        };
        auto mask = [&](int first_key) {
            if (first_key + KEYS <= p.tokens && !(p.causal && first_key + KEYS > first)) return;
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) {
                const int key = first_key + 8 * (i / 4) + 2 * t + (i & 1), query = first + g + 8 * ((i >> 1) & 1);
                if (key >= p.tokens || (p.causal && key > query)) s[i] = -INFINITY;
            }
        };

        mbarrier_wait(shared.barrier(own.slot, OWN_FULL), own.parity);
        mbarrier_wait(shared.barrier(stream.slot, STREAM_FULL), stream.parity);
        start_scores(stream);
        wgmma_wait<0>();
        wgmma_pin(s);
        mask(0);
        softmax_step<KEYS>(s, top, total, rescale, scale_log2);
        as_operands<KEYS>(probabilities, s);
        for (int step = 1; step < item.steps; step++) {
            const Position before = stream;
            stream.next(STREAM_STAGES);
            mbarrier_wait(shared.barrier(stream.slot, STREAM_FULL), stream.parity);
            start_scores(stream);
            start_output(before);
            wgmma_wait<1>();
            wgmma_pin(s);
            mask(step * KEYS);
            softmax_step<KEYS>(s, top, total, rescale, scale_log2);
            hold_waits(shared.anchor(), total[0] + total[1]);  // the exponentials are made while P·V runs
            wgmma_wait<0>();
            wgmma_pin(o);
            warp_arrive(shared.barrier(before.slot, STREAM_FREE));
#pragma unroll
            for (int i = 0; i < DIM / 2; i++) o[i] *= rescale[(i >> 1) & 1];
            as_operands<KEYS>(probabilities, s);
        }
        start_output(stream);
        wgmma_wait<0>();
        wgmma_pin(o);
        warp_arrive(shared.barrier(stream.slot, STREAM_FREE));
        stream.next(STREAM_STAGES);

        total[0] = warp_sum<4>(total[0]);
        total[1] = warp_sum<4>(total[1]);
        write_accumulators<DIM>(q, row, o, 1.0f / total[0], 1.0f / total[1], lane);
        fence_async_shared();
        warp_arrive(shared.barrier(own.slot, OWN_STAGED));
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = first + g + 8 * half;
            if (t == 0 && query < p.queries) {
                lse[size_t(item.pair) * p.queries + query] = (top[half] * scale_log2 + log2_approx(total[half])) * LN_2;
            }
        }
    }
}

template <int DIM> DEVICE void forward(const Problem &p, const TensorMap *qkv, const TensorMap *out, float *lse) {
    ForwardLayout<DIM>().init(1);
    const int warp = warp_id(), lane = lane_id();
    if (warp < 4) {
        decrease_registers<PRODUCER_REGISTERS>();
        if (warp == 0 && lane == 0) forward_load<DIM>(p, qkv);
        if (warp == 1 && lane == 0) forward_store<DIM>(p, out);
    } else {
        increase_registers<CONSUMER_REGISTERS>();
        forward_compute<DIM>(p, lse, warp - 4);
    }
}

// ------------------------------------------------------------------------------------------------------------ backward

/// 128 own keys or queries of one head, and the steps of 64 queries or keys that meet them.
struct BackwardItem {
    int pair, first, begin, end;  // steps
    bool keys;

    static DEVICE int count(const Problem &p) { return p.pairs * 2 * ceil_div(p.tokens, OWN_ROWS); }
    DEVICE BackwardItem(const Problem &p, int index) {
        const int blocks = ceil_div(p.tokens, OWN_ROWS), block = index % (2 * blocks);
        pair = index / (2 * blocks);
        keys = block < blocks;
        first = block % blocks * OWN_ROWS;
        // Causal: keys meet queries from their own position on, queries keys up to it. Tokens that do not ask meet
        // nothing.
        begin = keys && p.causal ? first / TILE_ROWS : 0;
        const int last = keys ? p.queries : p.causal ? min(p.tokens, first + OWN_ROWS) : p.tokens;
        end = !keys && first >= p.queries ? 0 : ceil_div(last, TILE_ROWS);
    }
};

/// Own tiles: x (K or Q) of each consumer, then y (V or dO). Streamed: u (Q or K), w (dO or V). Statistics: lse, in
/// units of log2, and delta.
template <int DIM> using BackwardLayout = Layout<DIM, 2 * CONSUMERS, 2, 2 * TILE_ROWS>;

template <int DIM> DEVICE void backward_load(const Problem &p, const TensorMap *qkv, const TensorMap *dout) {
    const BackwardLayout<DIM> shared;
    Position own, stream;
    for (int index = blockIdx.x; index < BackwardItem::count(p); index += gridDim.x, own.next(OWN_STAGES)) {
        const BackwardItem item(p, index);
        const int image = item.pair / p.heads, head = item.pair % p.heads;
        // A tile of the key side, K or V, or of the query side, Q or dO.
        auto load = [&](uint32_t to, uint32_t full, bool keys, bool second, int row) {
            if (!keys && second) {
                tma_load(to, dout, full, 0, head, row, image);
            } else {
                tma_load(to, qkv, full, 0, (keys ? 1 + second : 0) * p.heads + head, row, image);
            }
        };
        mbarrier_wait(shared.barrier(own.slot, OWN_FREE), own.parity ^ 1);
        const uint32_t own_full = shared.barrier(own.slot, OWN_FULL);
        mbarrier_arrive_expect_tx(own_full, shared.OWN_BYTES);
        for (int i = 0; i < 2 * CONSUMERS; i++) {
            load(shared.own(own.slot, i), own_full, item.keys, i >= CONSUMERS, item.first + i % CONSUMERS * TILE_ROWS);
        }
        for (int step = item.begin; step < item.end; step++, stream.next(STREAM_STAGES)) {
            mbarrier_wait(shared.barrier(stream.slot, STREAM_FREE), stream.parity ^ 1);
            const uint32_t full = shared.barrier(stream.slot, STREAM_FULL);
            mbarrier_arrive_expect_tx(full, shared.STREAM_BYTES);
            for (int i = 0; i < 2; i++) load(shared.stream(stream.slot, i), full, !item.keys, i == 1, step * TILE_ROWS);
        }
    }
}

/// One warp: lse and delta of streamed queries; queries past the last get lse = +∞, so that their P is 0.
template <int DIM> DEVICE void backward_statistics(const Problem &p, const float *lse, const float *delta, int lane) {
    const BackwardLayout<DIM> shared;
    Position stream;
    for (int index = blockIdx.x; index < BackwardItem::count(p); index += gridDim.x) {
        const BackwardItem item(p, index);
        for (int step = item.begin; step < item.end; step++, stream.next(STREAM_STAGES)) {
            mbarrier_wait(shared.barrier(stream.slot, STREAM_FREE), stream.parity ^ 1);
            float2 *statistics = reinterpret_cast<float2 *>(shared.statistics(stream.slot));
            if (item.keys) {
                for (int i = lane; i < TILE_ROWS; i += 32) {
                    const int query = step * TILE_ROWS + i;
                    const size_t at = size_t(item.pair) * p.queries + query;
                    statistics[i] =
                        query < p.queries ? make_float2(lse[at] * LOG2_E, delta[at]) : make_float2(INFINITY, 0.0f);
                }
            }
            warp_arrive(shared.barrier(stream.slot, STREAM_FULL));
        }
    }
}

template <int DIM> DEVICE void backward_store(const Problem &p, const TensorMap *dqkv) {
    const BackwardLayout<DIM> shared;
    Position own;
    for (int index = blockIdx.x; index < BackwardItem::count(p); index += gridDim.x, own.next(OWN_STAGES)) {
        const BackwardItem item(p, index);
        const int image = item.pair / p.heads, head = item.pair % p.heads;
        mbarrier_wait(shared.barrier(own.slot, OWN_STAGED), own.parity);
        for (int i = 0; i < (item.keys ? 2 * CONSUMERS : CONSUMERS); i++) {
            const int part = item.keys ? 1 + i / CONSUMERS : 0, row = item.first + i % CONSUMERS * TILE_ROWS;
            if (row < p.tokens) tma_store(dqkv, shared.own(own.slot, i), 0, part * p.heads + head, row, image);
        }
        tma_store_commit();
        tma_store_wait_read<0>();
        mbarrier_arrive(shared.barrier(own.slot, OWN_FREE));
    }
    tma_store_wait<0>();
}

/// One item of a consumer warpgroup: rows own, columns streamed; S = x·uᵀ, dP = y·wᵀ, first = Σ dS·u (dK or dQ), second
/// = Σ P·w (dV).
template <int DIM, bool KEYS>
DEVICE void backward_item(const Problem &p, const BackwardItem &item, Position own, Position &stream, const float *lse,
                          const float *delta, int warp) {
    using Head = HeadTile<DIM>;
    const BackwardLayout<DIM> shared;
    const int consumer = warp / 4, row = warp % 4 * 16, lane = lane_id(), g = lane >> 2, t = lane & 3;
    const int mine = item.first + consumer * TILE_ROWS + row + g;  // and + 8
    const uint32_t x = shared.own(own.slot, consumer), y = shared.own(own.slot, CONSUMERS + consumer);
    const float scale_log2 = p.scale * LOG2_E;
    float own_lse[2] = {0.0f, 0.0f}, own_delta[2] = {0.0f, 0.0f};
    if (!KEYS) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = mine + 8 * half;
            const size_t at = size_t(item.pair) * p.queries + query;
            own_lse[half] = query < p.queries ? lse[at] * LOG2_E : INFINITY;
            own_delta[half] = query < p.queries ? delta[at] : 0.0f;
        }
    }
    float first[DIM / 2], second[KEYS ? DIM / 2 : 1];
#pragma unroll
    for (int i = 0; i < DIM / 2; i++) {
        first[i] = 0.0f;
        if constexpr (KEYS) second[i] = 0.0f;
    }
    mbarrier_wait(shared.barrier(own.slot, OWN_FULL), own.parity);
    int before = -1;  // slot whose products are still running, which read these operands
    uint32_t operand[TILE_ROWS / 16][4], ds[TILE_ROWS / 16][4];
    for (int step = item.begin; step < item.end; step++, stream.next(STREAM_STAGES)) {
        const uint32_t u = shared.stream(stream.slot, 0), w = shared.stream(stream.slot, 1);
        float s[TILE_ROWS / 2], dp[TILE_ROWS / 2];
        mbarrier_wait(shared.barrier(stream.slot, STREAM_FULL), stream.parity);
        auto start = [&](float (&d)[TILE_ROWS / 2], uint32_t left, uint32_t right) {
            wgmma_pin(d);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < DIM / 16; k++) {
                wgmma_ss<TILE_ROWS, K_MAJOR, K_MAJOR>(d, Head::operand(left + 32 * k), Head::operand(right + 32 * k),
                                                      k > 0);
            }
            wgmma_commit();
        };
        start(s, x, u);
        start(dp, y, w);
        wgmma_wait<1>();  // S, and the sums of the step before
        wgmma_pin(s);
        wgmma_pin(first);
        if constexpr (KEYS) wgmma_pin(second);
        if (before >= 0) {
#pragma unroll
            for (int k = 0; k < TILE_ROWS / 16; k++) {
                wgmma_pin(ds[k]);
                if constexpr (KEYS) wgmma_pin(operand[k]);
            }
            warp_arrive(shared.barrier(before, STREAM_FREE));
        }
        before = stream.slot;

        const float2 *statistics = reinterpret_cast<const float2 *>(shared.statistics(stream.slot));
        const int column = step * TILE_ROWS;
        float streamed_delta[KEYS ? TILE_ROWS / 4 : 1];
#pragma unroll
        for (int j = 0; j < TILE_ROWS / 4; j++) {  // the thread's columns
            const int at = 8 * (j / 2) + 2 * t + (j & 1), i = 4 * (j / 2) + (j & 1);
            float low = own_lse[0], high = own_lse[1];
            if constexpr (KEYS) {
                const float2 streamed = statistics[at];
                low = high = streamed.x;
                streamed_delta[j] = streamed.y;
            }
            s[i] = exp2_approx(fmaf(s[i], scale_log2, -low));
            s[i + 2] = exp2_approx(fmaf(s[i + 2], scale_log2, -high));
        }
        // Streamed queries past the end have P = 0 by their lse; keys past the end and the future must be masked.
        const bool edge = (!KEYS && column + TILE_ROWS > p.tokens) || p.causal;
        if (edge) {
#pragma unroll
            for (int i = 0; i < TILE_ROWS / 2; i++) {
                const int other = column + 8 * (i / 4) + 2 * t + (i & 1), self = mine + 8 * ((i >> 1) & 1);
                if ((!KEYS && other >= p.tokens) || (p.causal && (KEYS ? self > other : other > self))) s[i] = 0.0f;
            }
        }
        if constexpr (KEYS) as_operands<TILE_ROWS>(operand, s);
        wgmma_wait<0>();
        wgmma_pin(dp);
#pragma unroll
        for (int i = 0; i < TILE_ROWS / 2; i++) {
            dp[i] =
                s[i] * (dp[i] - (KEYS ? streamed_delta[KEYS ? 2 * (i / 4) + (i & 1) : 0] : own_delta[(i >> 1) & 1]));
        }
        as_operands<TILE_ROWS>(ds, dp);
        wgmma_pin(first);
        if constexpr (KEYS) wgmma_pin(second);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < TILE_ROWS / 16; k++) {
            if constexpr (KEYS)
                wgmma_rs<DIM, MN_MAJOR>(second, operand[k], Head::operand(w + k * 16 * Head::ROW_BYTES), 1);
            wgmma_rs<DIM, MN_MAJOR>(first, ds[k], Head::operand(u + k * 16 * Head::ROW_BYTES), 1);
        }
        wgmma_commit();
    }
    wgmma_wait<0>();
    wgmma_pin(first);
    if constexpr (KEYS) wgmma_pin(second);
    if (before >= 0) warp_arrive(shared.barrier(before, STREAM_FREE));
    write_accumulators<DIM>(x, row, first, p.scale, p.scale, lane);
    if constexpr (KEYS) write_accumulators<DIM>(y, row, second, 1.0f, 1.0f, lane);
    fence_async_shared();
    warp_arrive(shared.barrier(own.slot, OWN_STAGED));
}

template <int DIM>
DEVICE void backward(const Problem &p, const TensorMap *dqkv, const TensorMap *dout, const TensorMap *qkv,
                     const float *lse, const float *delta) {
    BackwardLayout<DIM>().init(2);
    const int warp = warp_id(), lane = lane_id();
    if (warp < 4) {
        decrease_registers<PRODUCER_REGISTERS>();
        if (warp == 0 && lane == 0) backward_load<DIM>(p, qkv, dout);
        if (warp == 1 && lane == 0) backward_store<DIM>(p, dqkv);
        if (warp == 2) backward_statistics<DIM>(p, lse, delta, lane);
    } else {
        increase_registers<CONSUMER_REGISTERS>();
        Position own, stream;
        for (int index = blockIdx.x; index < BackwardItem::count(p); index += gridDim.x, own.next(OWN_STAGES)) {
            const BackwardItem item(p, index);
            if (item.keys) {
                backward_item<DIM, true>(p, item, own, stream, lse, delta, warp - 4);
            } else {
                backward_item<DIM, false>(p, item, own, stream, lse, delta, warp - 4);
            }
        }
    }
}

}  // namespace

// Grid: at most one block per multiprocessor. Dynamic shared memory: the end of the layouts. `delta` is
// self_attention_delta's.
#define SELF_ATTENTION_LONG(DIM)                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) self_attention_forward_long_sm90_d##DIM(        \
        const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap out, float *lse, int pairs, \
        int tokens, int queries, int heads, int causal, float scale) {                                       \
        forward<DIM>({pairs, tokens, queries, heads, causal, scale}, &qkv, &out, lse);                       \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) self_attention_backward_long_sm90_d##DIM(       \
        const __grid_constant__ TensorMap dqkv, const __grid_constant__ TensorMap dout,                      \
        const __grid_constant__ TensorMap qkv, const float *lse, const float *delta, int pairs, int tokens,  \
        int queries, int heads, int causal, float scale) {                                                   \
        backward<DIM>({pairs, tokens, queries, heads, causal, scale}, &dqkv, &dout, &qkv, lse, delta);       \
    }

SELF_ATTENTION_LONG(64)
SELF_ATTENTION_LONG(32)

EXPORT(ROWS, OWN_ROWS)
// For heads of 32, then of 64. The gradient has no anchors.
EXPORT(FORWARD_SHARED, ForwardLayout<32>::BYTES, ForwardLayout<64>::BYTES)
EXPORT(BACKWARD_SHARED, BackwardLayout<32>::ANCHORS_AT, BackwardLayout<64>::ANCHORS_AT)
