// Fused attention of inference on Hopper: Y = softmax(Q·Kᵀ/√d)·V per image and head, not causal, for d ≤ 160. Buffers
// and meaning as in attention.cu.
//
// Clusters of two blocks, one block per multiprocessor, walk over items: two neighbouring blocks of queries of one
// head, 64 for each computing warpgroup. Keys and values pass through a ring of slots in the order K0 K1 V0 K2 V1 … :
// each block loads half of every tile into both (multicast), which halves what is read from L2: from 14 to 7 bytes per
// cycle and multiprocessor at d = 40, times 1.4 because rows of 80 bytes begin anywhere in sectors of 32. A row of a
// tile takes 128 bytes whatever d is; TMA fills it with zeros behind d, so K has 48 = 3·16 columns for d = 40, and V is
// read at 40.
//
// V is an MN-major operand of 40, 80 or 160 columns under a swizzle of 64: PTX draws that layout in whole spans of 64
// only, and nobody known reads part of one. So there are kernels that multiply whole spans, zeros behind d included
// (d80_v128, d160_v192; for d = 40 the one for 64, as three warpgroups have no registers for 64 columns), and a probe
// on each card (src/ops/attention/cuda/hopper.rs) takes them where the others are wrong. Products are then 512 cycles
// of a step at d = 40 (352 otherwise) and only two warpgroups share them, 832 at d = 80 (640), 1408 at d = 160 (1280).
//
// A warpgroup keeps its queries as operands in registers. While it computes the exponentials of one step, the tensor
// cores work at its P·V of the step before, and at what the other warpgroups are at: with three of them (d = 40) one
// may compute scores, one P·V, one exponentials. P stays in registers. Exponents are counted from a shift that seldom
// moves (common/softmax.cuh).
//
// At d = 40 a step of 64 queries and 128 keys takes, in cycles of a multiprocessor: 352 for products (192 + 160); 528
// for exponentials at 16 per cycle (and two for moved shifts); 418 to issue its instructions. Therefore an eighth of
// the keys, the last 8 of each 64, gets the exponential from a cubic on the multiply-add pipes, 7 instructions more:
// then 464 for exponentials and 474 to issue. A quarter would be 400 and 530. At d = 64 512 for products, the rest
// alike; at d = 80 640, 528 and 430 without the cubic; at d = 160 1280 and half the others: products.
//
// FLOPs 4·N·G·queries·keys·d, exponentials N·G·queries·keys, bytes q + k + v + y once.
#include "common/attention_sm90.cuh"
#include "common/softmax.cuh"

namespace {

extern __shared__ __align__(1024) unsigned char shared_memory[];

constexpr int BLOCKS = 2;  // of a cluster
constexpr int ROW = 128;   // bytes of a row of 64 columns
constexpr int NEVER = 1 << 20;

/// Sizes for heads of up to DIM values. A tile of rows consists of pieces of 64 columns.
template <int DIM> struct Plan {
    static constexpr int GROUPS = DIM == 40 ? 3 : 2;  // warpgroups that compute
    static constexpr int KEYS = DIM == 160 ? 64 : 128;  // of a step
    // of so many groups of 8 keys the last has exponentials from a cubic
    static constexpr int CUBIC = DIM <= 64 ? 8 : NEVER;
    static constexpr int SLOTS = DIM <= 64 ? 8 : 5;
    static constexpr int THREADS = 128 * (1 + GROUPS), ROWS = 64 * GROUPS;
    static constexpr int LOADER_REGISTERS = GROUPS == 3 ? 32 : 40, REGISTERS = GROUPS == 3 ? 160 : 232;
    static constexpr int PIECES = ceil_div(DIM, 64), PIECE = KEYS * ROW, SLOT = PIECES * PIECE;
    static constexpr int OWN_PIECE = 64 * ROW, OWN = PIECES * OWN_PIECE;  // queries, or outputs, of a warpgroup
    static constexpr int OUT_AT = GROUPS * OWN, RING_AT = 2 * OUT_AT, BARRIERS_AT = RING_AT + SLOTS * SLOT;
    static constexpr int ANCHORS_AT = BARRIERS_AT + (2 * SLOTS + 2) * 8;  // a word for each computing thread
    static constexpr int SHARED = ANCHORS_AT + GROUPS * 128 * 4;
    static_assert(SHARED <= 232448, "more shared memory than a block can have");
};

/// Addresses. Full: what was loaded has landed. Free: may be overwritten, a slot in both blocks.
template <int DIM> struct Shared {
    using P = Plan<DIM>;
    uint32_t base = shared_address(shared_memory);
    DEVICE uint32_t queries(int group) const { return base + group * P::OWN; }
    DEVICE uint32_t outputs(int group) const { return base + P::OUT_AT + group * P::OWN; }
    DEVICE uint32_t slot(Position at) const { return base + P::RING_AT + at.slot * P::SLOT; }
    DEVICE uint32_t full(Position at) const { return base + P::BARRIERS_AT + at.slot * 8; }
    DEVICE uint32_t free(Position at) const { return full(at) + P::SLOTS * 8; }
    DEVICE uint32_t queries_full() const { return base + P::BARRIERS_AT + 2 * P::SLOTS * 8; }
    DEVICE uint32_t queries_free() const { return queries_full() + 8; }
    DEVICE uint32_t anchor() const { return base + P::ANCHORS_AT + (threadIdx.x - 128) * 4; }

    DEVICE void init() const {
        if (threadIdx.x == 0) {
            for (Position at; at.slot < P::SLOTS; at.slot++) {
                mbarrier_init(full(at), 1);
                mbarrier_init(free(at), BLOCKS * P::GROUPS * 4);
            }
            mbarrier_init(queries_full(), 1);
            mbarrier_init(queries_free(), P::GROUPS * 4);
            fence_mbarrier_init();
        }
        cluster_sync();  // no block may load into the other before that one's barriers are there
    }
};

struct Problem {
    int images, queries, keys, heads;
    float scale;
};

/// Queries of one head: `first` of this block; and the steps over its keys.
template <int DIM> struct Item {
    using P = Plan<DIM>;
    int image, head, first, steps;

    static DEVICE int per_head(const Problem &p) { return ceil_div(p.queries, BLOCKS * P::ROWS); }
    static DEVICE int count(const Problem &p) { return p.images * p.heads * per_head(p); }
    DEVICE Item(const Problem &p, int index) {
        const int pair = index / per_head(p);
        image = pair / p.heads;
        head = pair % p.heads;
        first = (index % per_head(p) * BLOCKS + int(cluster_rank())) * P::ROWS;
        steps = ceil_div(p.keys, P::KEYS);
    }
};

template <int DIM> DEVICE void load_all(const Problem &p, const TensorMap *q, const TensorMap *k, const TensorMap *v) {
    using P = Plan<DIM>;
    constexpr int HALF = P::KEYS / BLOCKS;
    constexpr uint16_t ALL = (1 << BLOCKS) - 1;
    const Shared<DIM> shared;
    const int rank = cluster_rank();
    Position own, stream;
    for (int index = cluster_index(); index < Item<DIM>::count(p); index += cluster_count(), own.next(1)) {
        const Item<DIM> item(p, index);
        mbarrier_wait(shared.queries_free(), own.parity ^ 1);
        mbarrier_arrive_expect_tx(shared.queries_full(), P::OUT_AT);
        for (int group = 0; group < P::GROUPS; group++) {
#pragma unroll
            for (int piece = 0; piece < P::PIECES; piece++) {
                tma_load(shared.queries(group) + piece * P::OWN_PIECE, q, shared.queries_full(), piece * 64, item.head,
                         item.first + group * 64, item.image);
            }
        }
        auto load = [&](const TensorMap *map, int step) {
            mbarrier_wait_cluster(shared.free(stream), stream.parity ^ 1);
            mbarrier_arrive_expect_tx(shared.full(stream), P::SLOT);
#pragma unroll
            for (int piece = 0; piece < P::PIECES; piece++) {
                tma_load_multicast(shared.slot(stream) + piece * P::PIECE + rank * HALF * ROW, map, shared.full(stream),
                                   ALL, piece * 64, item.head, step * P::KEYS + rank * HALF, item.image);
            }
            stream.next(P::SLOTS);
        };
        load(k, 0);
        for (int step = 1; step < item.steps; step++) {
            load(k, step);
            load(v, step - 1);
        }
        load(v, item.steps - 1);
    }
}

/// Descriptor of a tile of 128-byte rows.
template <int LEADING> DEVICE uint64_t descriptor(uint32_t tile) {
    return wgmma_descriptor(tile, LEADING, 8 * ROW, SWIZZLE_128);
}
/// Of what lies so many bytes further in shared memory; nothing is carried out of the address.
DEVICE uint64_t further(uint64_t descriptor, int bytes) {
    return (descriptor & 0xffffffff00000000) | static_cast<uint32_t>(static_cast<uint32_t>(descriptor) + bytes / 16);
}

/// Scores to probabilities, not normalised; moves shifts and totals of rows g and g + 8 (totals of this lane's columns
/// only). Returns whether any row of the warp moved, by `rescale`.
template <int KEYS, int CUBIC>
DEVICE bool softmax_step(float (&s)[KEYS / 2], float (&shift)[2], float (&total)[2], float (&rescale)[2],
                         float scale_log2) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float even = s[2 * half], odd = s[2 * half + 1];
#pragma unroll
        for (int j = 1; j < KEYS / 8; j++)
            even = fmaxf(even, s[4 * j + 2 * half]), odd = fmaxf(odd, s[4 * j + 2 * half + 1]);
        rescale[half] = move_shift(shift[half], warp_max<4>(fmaxf(even, odd)) * scale_log2);
    }
    float sums[2][2] = {};
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float x = fmaf(s[4 * j + i], scale_log2, -shift[i / 2]);
            s[4 * j + i] = j % CUBIC == CUBIC - 1 ? exp2_cubic(x) : exp2_approx(x);
            sums[i / 2][i % 2] += s[4 * j + i];
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) total[half] = total[half] * rescale[half] + (sums[half][0] + sums[half][1]);
    return __any_sync(FULL_WARP, rescale[0] != 1.0f || rescale[1] != 1.0f);
}

/// Writes a warp's 16 × DIM accumulators, times `low` for rows g and `high` for rows g + 8, as T to 16 rows in pieces
/// of 64 columns. Behind them may be accumulators of columns that no head has.
template <typename T, int DIM, int HALF>
DEVICE void stage_outputs(uint32_t rows, const float (&o)[HALF], float low, float high, int lane) {
    uint32_t words[DIM / 4];
#pragma unroll
    for (int i = 0; i < DIM / 4; i++)
        words[i] = pack<T>(o[2 * i] * (i & 1 ? high : low), o[2 * i + 1] * (i & 1 ? high : low));
    const uint32_t at = rows + Tile<64>::offset(lane & 15, lane >> 4);
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
        const uint32_t to = Tile<64>::at_step(at, step % 4) + step / 4 * Plan<DIM>::OWN_PIECE;
        stmatrix_x4(to, words[4 * step], words[4 * step + 1], words[4 * step + 2], words[4 * step + 3]);
    }
    if constexpr (DIM % 16 != 0) {
        const uint32_t to = rows + DIM / 64 * Plan<DIM>::OWN_PIECE + Tile<64>::offset(lane & 15, DIM / 8 % 8 - 1);
        stmatrix_x2(to, words[DIM / 4 - 2], words[DIM / 4 - 1]);
    }
}

/// VALUES: columns of V that are multiplied, DIM or whole spans of 64.
template <typename T, int DIM, int VALUES> DEVICE void compute(const Problem &p, const TensorMap *y, int group) {
    using P = Plan<DIM>;
    static_assert(VALUES == DIM || VALUES == P::PIECES * 64, "the head's own columns or whole spans");
    constexpr int KEYS = P::KEYS;
    const Shared<DIM> shared;
    const int warp = warp_id() & 3, lane = lane_id(), t = lane & 3;
    const float scale_log2 = p.scale * LOG2_E;
    const uint32_t outputs = shared.outputs(group) + warp * 16 * ROW;  // the warp's rows of each piece
    if constexpr (DIM % 64 != 0) {  // TMA reads the columns behind DIM too, though it stores none of them
#pragma unroll
        for (int i = 0; i < 4; i++)
            store_shared(outputs + (P::PIECES - 1) * P::OWN_PIECE + (lane + 32 * i) * 16, make_uint4(0, 0, 0, 0));
    }
    Position own, stream;
    // Of slot 0, in the block to which this lane speaks.
    const uint32_t free = cluster_address(shared.free(stream), lane & (BLOCKS - 1));
    auto release = [&](Position at) {
        __syncwarp();
        mbarrier_arrive_cluster(free + at.slot * 8, lane < BLOCKS);
    };
    for (int index = cluster_index(); index < Item<DIM>::count(p); index += cluster_count(), own.next(1)) {
        const Item<DIM> item(p, index);
        const int first = item.first + group * 64;
        mbarrier_wait(shared.queries_full(), own.parity);
        uint32_t q[ceil_div(DIM, 16)][4];
#pragma unroll
        for (int step = 0; step < ceil_div(DIM, 16); step++) {
            Tile<64>::load_a(q[step], shared.queries(group) + step / 4 * P::OWN_PIECE, 16 * warp, step % 4, lane);
        }
        warp_arrive(shared.queries_free());
        if (first >= p.queries) {  // past the end: slots are given back all the same
            for (int i = 0; i < 2 * item.steps; i++, stream.next(P::SLOTS)) {
                mbarrier_wait(shared.full(stream), stream.parity);
                release(stream);
            }
            continue;
        }

        float s[KEYS / 2], o[VALUES / 2], shift[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f}, rescale[2];
        uint32_t probabilities[KEYS / 16][4];
#pragma unroll
        for (int i = 0; i < VALUES / 2; i++) o[i] = 0.0f;
        auto start_scores = [&]() {
            mbarrier_wait(shared.full(stream), stream.parity);
            const uint64_t k = descriptor<16>(shared.slot(stream));
            wgmma_pin(s);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < ceil_div(DIM, 16); step++) {
                wgmma_rs<KEYS, K_MAJOR, T>(s, q[step], further(k, step / 4 * P::PIECE + step % 4 * 32), step > 0);
            }
            wgmma_commit();
        };
        auto start_output = [&]() {
            mbarrier_wait(shared.full(stream), stream.parity);
            const uint64_t v = descriptor<P::PIECE>(shared.slot(stream));
            wgmma_pin(o);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < KEYS / 16; step++)
                wgmma_rs<VALUES, MN_MAJOR, T>(o, probabilities[step], further(v, step * 16 * ROW), 1);
            wgmma_commit();
        };
        auto mask = [&](int step) {
            if ((step + 1) * KEYS <= p.keys) return;
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) {
                if (step * KEYS + 8 * (i / 4) + 2 * t + (i & 1) >= p.keys) s[i] = -INFINITY;
            }
        };

        start_scores();
        wgmma_wait<0>();
        wgmma_pin(s);
        release(stream);
        stream.next(P::SLOTS);
        mask(0);
        softmax_step<KEYS, P::CUBIC>(s, shift, total, rescale, scale_log2);
        as_operands<KEYS, T>(probabilities, s);
        for (int step = 1; step < item.steps; step++) {
            start_scores();
            const Position keys = stream;
            stream.next(P::SLOTS);
            start_output();
            wgmma_wait<1>();
            wgmma_pin(s);
            release(keys);
            mask(step);
            const bool moved = softmax_step<KEYS, P::CUBIC>(s, shift, total, rescale, scale_log2);
            hold_waits(shared.anchor(), total[0] + total[1]);  // the exponentials are made while P·V runs
            wgmma_wait<0>();
            wgmma_pin(o);
            release(stream);
            stream.next(P::SLOTS);
            if (moved) {
#pragma unroll
                for (int i = 0; i < VALUES / 2; i++) o[i] *= rescale[(i >> 1) & 1];
            }
            as_operands<KEYS, T>(probabilities, s);
        }
        start_output();
        wgmma_wait<0>();
        wgmma_pin(o);
        release(stream);
        stream.next(P::SLOTS);

        const float low = 1.0f / warp_sum<4>(total[0]), high = 1.0f / warp_sum<4>(total[1]);
        if (lane == 0) tma_store_wait_read<0>();  // the outputs before
        __syncwarp();
        stage_outputs<T, DIM>(outputs, o, low, high, lane);
        fence_async_shared();
        __syncwarp();
        if (lane == 0 && first + warp * 16 < p.queries) {
#pragma unroll
            for (int piece = 0; piece < P::PIECES; piece++) {
                tma_store(y, outputs + piece * P::OWN_PIECE, piece * 64, item.head, first + warp * 16, item.image);
            }
            tma_store_commit();
        }
    }
    if (lane == 0) tma_store_wait<0>();
}

template <typename T, int DIM, int VALUES>
DEVICE void forward(const Problem &p, const TensorMap *y, const TensorMap *q, const TensorMap *k, const TensorMap *v) {
    Shared<DIM>().init();
    if (warp_id() < 4) {
        decrease_registers<Plan<DIM>::LOADER_REGISTERS>();
        if (warp_id() == 0 && elect_one()) {
            prefetch_tensormap(q);
            prefetch_tensormap(k);
            prefetch_tensormap(v);
            load_all<DIM>(p, q, k, v);
        }
    } else {
        increase_registers<Plan<DIM>::REGISTERS>();
        compute<T, DIM, VALUES>(p, y, warp_id() / 4 - 1);
    }
    // No block leaves while the other may still load into it or arrive at its barriers.
    __syncwarp();
    cluster_sync();
}

}  // namespace

// Grid: clusters of two blocks, at most one block per multiprocessor. Dynamic shared memory: Plan's barriers and what
// lies before them. Boxes of the tensor maps (d, heads, tokens, images): 64 values of q 64 tokens, of k and v half a
// step's keys, of y 16 tokens.
#define ATTENTION_SM90(NAME, TYPE, DIM, VALUES)                                                                        \
    extern "C" __global__ void __launch_bounds__(Plan<DIM>::THREADS, 1) attention_forward_sm90_##NAME##_##TYPE(        \
        const __grid_constant__ TensorMap y, const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, \
        const __grid_constant__ TensorMap v, int images, int queries, int keys, int heads, float scale) {              \
        forward<TYPE, DIM, VALUES>({images, queries, keys, heads, scale}, &y, &q, &k, &v);                             \
    }
/// Values of a head as computed, columns of V as multiplied.
#define KERNELS(KERNEL, TYPE) \
    KERNEL(d40, TYPE, 40, 40) KERNEL(d64, TYPE, 64, 64) KERNEL(d80, TYPE, 80, 80) KERNEL(d80_v128, TYPE, 80, 128) \
    KERNEL(d160, TYPE, 160, 160) KERNEL(d160_v192, TYPE, 160, 192)

KERNELS(ATTENTION_SM90, f16)
KERNELS(ATTENTION_SM90, bf16)

EXPORT(BLOCKS, BLOCKS)
// Values, columns, warpgroups that compute, keys of a step, threads, shared memory.
#define PLAN(NAME, TYPE, DIM, VALUES) \
    DIM, VALUES, Plan<DIM>::GROUPS, Plan<DIM>::KEYS, Plan<DIM>::THREADS, Plan<DIM>::SHARED,
EXPORT(PLANS, KERNELS(PLAN, f16))
