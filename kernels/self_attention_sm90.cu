// Multi-head self-attention forward on Hopper, up to 256 tokens: O = softmax(Q·Kᵀ/√d)·V, lse = log Σ exp S. Buffers and
// meaning as in self_attention.cu; backward is in self_attention_backward_sm90.cu.
//
// One block per multiprocessor walks over images and heads. Of its three warpgroups one moves data: a warp keeps the
// ring of stages (Q, K, V of one head, all tokens) full through TMA, another stores the outputs. Two compute: a
// warpgroup takes 64 queries, has all scores of their rows in registers after one chain of wgmmas (N = all keys), so
// the softmax is one pass without rescaling, and P goes to the second product from registers. The output is staged
// where the warpgroup's queries lay. While one warpgroup is at its exponentials the other has the tensor cores. TMA
// fills tokens past the end with zeros and drops their outputs; keys past the end are masked by their number.
//
// FLOPs: 4·N·G·Q·T·d. Bytes: qkv + out once. Bound by HBM.
#include "common/attention_sm90.cuh"

namespace {

extern __shared__ __align__(1024) unsigned char shared_memory[];

/// The mbarriers of a stage. Full: TMA's bytes have landed. Staged: outputs lie where Q lay. Free: may be overwritten.
enum Barrier { SCORES_FULL, VALUES_FULL, KEYS_FREE, STAGED, QUERIES_FREE, BARRIERS };

/// Scores of 16 query rows of a warp to probabilities, unnormalised; `seen[half]` keys count for row g + 8·half. Keys
/// below MASK_FROM are seen by every row unless causal. Leaves each row's maximum and total.
template <int KEYS, int MASK_FROM>
DEVICE void softmax_rows(float (&s)[KEYS / 2], float (&top)[2], float (&total)[2], const int (&seen)[2], int causal,
                         float scale_log2, int t) {
    if (causal) {
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            if (8 * (i / 4) + 2 * t + (i & 1) >= seen[(i >> 1) & 1]) s[i] = -INFINITY;
        }
    } else {
#pragma unroll
        for (int i = MASK_FROM / 2; i < KEYS / 2; i++) {
            if (8 * (i / 4) + 2 * t + (i & 1) >= seen[0]) s[i] = -INFINITY;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float even = -INFINITY, odd = -INFINITY;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
            even = fmaxf(even, s[4 * j + 2 * half]), odd = fmaxf(odd, s[4 * j + 2 * half + 1]);
        top[half] = warp_max<4>(fmaxf(even, odd));  // finite: every query sees key 0
        const float shift = top[half] * scale_log2;
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
        total[half] = warp_sum<4>(sums[0] + sums[1]);
    }
}

template <int DIM, int KEYS, int MASK_FROM>
DEVICE void forward(const TensorMap *qkv, const TensorMap *out, float *lse, int pairs, int tokens, int queries,
                    int heads, int causal, float scale, int stages) {
    using Head = HeadTile<DIM>;
    const int query_tiles = ceil_div(queries, TILE_ROWS), key_tiles = ceil_div(tokens, TILE_ROWS);
    const uint32_t tiles = shared_address(shared_memory);
    const int keys_at = query_tiles * Head::BYTES, values_at = keys_at + key_tiles * Head::BYTES;
    const int stage_bytes = values_at + key_tiles * Head::BYTES;
    auto stage = [&](Position at) { return tiles + at.slot * stage_bytes; };
    auto barrier = [&](Position at, Barrier which) {
        return tiles + stages * stage_bytes + (at.slot * BARRIERS + which) * 8;
    };
    if (threadIdx.x == 0) {
        for (Position at; at.slot < stages; at.slot++) {
            mbarrier_init(barrier(at, SCORES_FULL), 1);
            mbarrier_init(barrier(at, VALUES_FULL), 1);
            mbarrier_init(barrier(at, KEYS_FREE), CONSUMER_WARPS);
            mbarrier_init(barrier(at, STAGED), CONSUMER_WARPS);
            mbarrier_init(barrier(at, QUERIES_FREE), 1);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    const int warp = warp_id(), lane = lane_id();
    Position at;

    if (warp < 4) {
        decrease_registers<PRODUCER_REGISTERS>();
        if (warp == 0 && lane == 0) {  // loads
            prefetch_tensormap(qkv);
            for (int pair = blockIdx.x; pair < pairs; pair += gridDim.x, at.next(stages)) {
                const int image = pair / heads, head = pair % heads;
                mbarrier_wait(barrier(at, KEYS_FREE), at.parity ^ 1);
                mbarrier_wait(barrier(at, QUERIES_FREE), at.parity ^ 1);
                auto load = [&](int part, int count, int to, Barrier full) {
                    for (int i = 0; i < count; i++) {
                        tma_load(stage(at) + to + i * Head::BYTES, qkv, barrier(at, full), 0, part * heads + head,
                                 i * TILE_ROWS, image);
                    }
                };
                mbarrier_arrive_expect_tx(barrier(at, SCORES_FULL), values_at);
                load(0, query_tiles, 0, SCORES_FULL);
                load(1, key_tiles, keys_at, SCORES_FULL);
                mbarrier_arrive_expect_tx(barrier(at, VALUES_FULL), key_tiles * Head::BYTES);
                load(2, key_tiles, values_at, VALUES_FULL);
            }
        } else if (warp == 1 && lane == 0) {  // stores
            prefetch_tensormap(out);
            for (int pair = blockIdx.x; pair < pairs; pair += gridDim.x, at.next(stages)) {
                const int image = pair / heads, head = pair % heads;
                mbarrier_wait(barrier(at, STAGED), at.parity);
                for (int i = 0; i < query_tiles; i++)
                    tma_store(out, stage(at) + i * Head::BYTES, 0, head, i * TILE_ROWS, image);
                tma_store_commit();
                tma_store_wait_read<0>();
                mbarrier_arrive(barrier(at, QUERIES_FREE));
            }
            tma_store_wait<0>();
        }
        return;
    }

    increase_registers<CONSUMER_REGISTERS>();
    const int consumer = warp / 4 - 1, g = lane >> 2, t = lane & 3;
    const float scale_log2 = scale * LOG2_E;
    // tiles are dealt out in turn, across heads too: with an odd number both warpgroups still work as much
    int turn = consumer;
    for (int pair = blockIdx.x; pair < pairs; pair += gridDim.x, at.next(stages), turn = (turn + query_tiles) & 1) {
        mbarrier_wait(barrier(at, SCORES_FULL), at.parity);
        bool values_full = false;
        for (int tile = turn; tile < query_tiles; tile += CONSUMERS) {
            const uint32_t q = stage(at) + tile * Head::BYTES, k = stage(at) + keys_at, v = stage(at) + values_at;
            float s[KEYS / 2];
            wgmma_pin(s);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < DIM / 16; step++) {
                wgmma_ss<KEYS, K_MAJOR, K_MAJOR>(s, Head::operand(q + 32 * step), Head::operand(k + 32 * step),
                                                 step > 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
            wgmma_pin(s);

            const int row = (warp & 3) * 16, first = tile * TILE_ROWS + row;
            float top[2], total[2];
            const int seen[2] = {causal ? min(tokens, first + g + 1) : tokens,
                                 causal ? min(tokens, first + g + 9) : tokens};
            if (first < queries) softmax_rows<KEYS, MASK_FROM>(s, top, total, seen, causal, scale_log2, t);
            uint32_t p[KEYS / 16][4];
            as_operands<KEYS>(p, s);

            if (!values_full) mbarrier_wait(barrier(at, VALUES_FULL), at.parity);
            values_full = true;
            float o[DIM / 2];
            wgmma_pin(o);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < KEYS / 16; step++) {
                wgmma_rs<DIM, MN_MAJOR>(o, p[step], Head::operand(v + step * 16 * Head::ROW_BYTES), step > 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
            wgmma_pin(o);
            if (first < queries) {
                write_accumulators<DIM>(q, row, o, 1.0f / total[0], 1.0f / total[1], lane);
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int query = first + g + 8 * half;
                    if (t == 0 && query < queries) {
                        lse[size_t(pair) * queries + query] =
                            (top[half] * scale_log2 + log2_approx(total[half])) * LN_2;
                    }
                }
            }
        }
        warp_arrive(barrier(at, KEYS_FREE));
        fence_async_shared();
        warp_arrive(barrier(at, STAGED));
    }
}

}  // namespace

// Grid: at most one block per multiprocessor. Dynamic shared memory: stages · ((⌈Q/64⌉ + 2·⌈T/64⌉) · 128·d + 40). T ≤
// KEYS, T > MASK_FROM or causal.
#define SELF_ATTENTION_FORWARD(DIM, KEYS, MASK_FROM)                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) self_attention_forward_sm90_d##DIM##_k##KEYS(    \
        const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap out, float *lse, int pairs,  \
        int tokens, int queries, int heads, int causal, float scale, int stages) {                            \
        forward<DIM, KEYS, MASK_FROM>(&qkv, &out, lse, pairs, tokens, queries, heads, causal, scale, stages); \
    }

/// Keys that a kernel computes, and those that no query of its lengths is without.
#define LENGTHS(KERNEL, DIM) \
    KERNEL(DIM, 64, 0) KERNEL(DIM, 128, 64) KERNEL(DIM, 192, 128) KERNEL(DIM, 208, 192) KERNEL(DIM, 256, 208)

LENGTHS(SELF_ATTENTION_FORWARD, 64)
LENGTHS(SELF_ATTENTION_FORWARD, 32)

EXPORT(TILE, TILE_ROWS)
EXPORT(THREADS, THREADS)
EXPORT(BARRIERS, BARRIERS)
#define KEYS_OF(DIM, KEYS, MASK_FROM) KEYS,
EXPORT(KEYS, LENGTHS(KEYS_OF, 64))
