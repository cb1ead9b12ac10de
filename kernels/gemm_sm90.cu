// Matrix products for training on Hopper: the products and epilogues of gemm.cu through TMA, mbarriers and wgmma.
//
//   NT  y[M,N] = a[M,K]·b[N,K]ᵀ    bias (bf16 or f32 out); bias + GELU with the pre-activation h; bias + residual
//   NN  y[M,N] = a[M,K]·b[K,N]     plain; times GELU′(h)
//   TN  partial sums of a[K,M]ᵀ·b[K,N] and of a's columns, which gemm_sm90_sum_f32 adds to dw[M,N] and db[M]
//
// Rows of every matrix that a tensor map describes begin at multiples of 16 bytes; sizes are free (boxes outside read
// as zero and are not written). FLOPs 2·M·N·K; bytes: each operand once per wave from the L2 cache. Bound by the tensor
// cores for K ≥ 200.
//
// One block per SM, in clusters of two along m that share the tile of b: each loads half of it into both (multicast),
// so a stage costs 16 KB of a and half of b from L2. Persistent: a cluster takes one pair of tiles after the other.
// Warpgroup 0 produces (one thread issues all loads), 1 and 2 consume; operands of NN and TN that are not K-major are
// read as they lie (wgmma's transpose bits), nothing is transposed in memory.
//
// Two schedules. COOPERATIVE: tiles 128×256, each consumer 64 rows of them; least traffic per FLOP. PING-PONG: tiles
// 128×128, consumers take tiles in turn, so one's epilogue runs while the other multiplies: better for short K and for
// GELU (about 20 instructions per value, 2,500 of the 6,144 cycles a 128×128×768 tile multiplies for). Steps of 64 in k
// go through a ring of 4 stages of 48 KB or 6 of 32 KB.
//
// Epilogues work on pieces of 64×64: registers → stmatrix → 8 KB of swizzled shared memory → TMA store, two pieces in
// flight per consumer. A residual or h arrives by TMA too, as one or two more steps of the ring, so it is there when
// the product is.
//
// TN cuts K into parts, the same for any card, so that 66 clusters are busy; what is left over after whole rounds is
// cut into 66 equal shares. Fewer clusters take several shares each, and fewer of them who has had an item more.
// Partial sums go to scratch and are added in the order of k by a second kernel. Clusters that run at a time read the
// same few ranges of k: sharing all of the work equally from the start would read 2–3 times as much from device memory
// as L2 lets it here, more than 4.1 TB/s at 790 TF/s. The idle warps of the producer sum a's columns from the stages.
//
// Order of additions: k in steps of 16 for every output, whatever the tile, the schedule and the other rows.
#include "common/gelu.cuh"
#include "common/reduce.cuh"
#include "common/ring.cuh"
#include "common/sm90.cuh"

namespace {

constexpr int BM = 128, BK = 64;
constexpr int THREADS = 384;
constexpr int BLOCKS = 2; // of a cluster
/// Pairs of tiles along m that are taken before the next columns: what runs at a time touches about as much of a as of
/// b.
constexpr int GROUP = 8;
/// 64 rows of 64 bf16, swizzled.
constexpr int PIECE = 64 * 128;
/// Named barriers, one per consumer: its own, and its turn to multiply (ping-pong).
constexpr uint32_t CONSUMER_BARRIER = 1, TURN_BARRIER = 3;

enum class Layout { NT, NN, TN };
enum class Epilogue { BIAS, BIAS_F32, GELU, RESIDUAL, GELU_BACKWARD, PARTIAL };
__host__ __device__ constexpr bool biased(Epilogue e) { return e != Epilogue::PARTIAL && e != Epilogue::GELU_BACKWARD; }
__host__ __device__ constexpr bool reads_aux(Epilogue e) {
    return e == Epilogue::RESIDUAL || e == Epilogue::GELU_BACKWARD;
}

/// Sizes that follow from the schedule.
template <bool PINGPONG> struct Config {
    static constexpr int BN = PINGPONG ? 128 : 256;
    static constexpr int STAGES = PINGPONG ? 6 : 4;
    static constexpr int A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2, STAGE = A_BYTES + B_BYTES;
    /// Blocks of 64 rows that a consumer holds.
    static constexpr int ROW_BLOCKS = PINGPONG ? 2 : 1;
    /// Consumers that release a stage, per block.
    static constexpr int RELEASES = PINGPONG ? 1 : 2;
    /// Steps of the ring that hold a tile's residual or h: 128 columns each.
    static constexpr int AUX_STEPS = BN / 128;
    /// Shared memory: stages, two pieces per consumer, a bias per consumer, barriers.
    static constexpr int STAGING = STAGES * STAGE, BIAS = STAGING + 2 * 2 * PIECE, BARRIERS = BIAS + 2 * BN * 4;
    static constexpr int SHARED = BARRIERS + 2 * STAGES * 8;
};
static_assert(Config<false>::SHARED <= 232448 && Config<true>::SHARED <= 232448, "one block's shared memory");

/// Sizes of the product; for TN also how its work is cut, and how many shares a cluster takes that had an item more
/// than others, and one that had not.
struct Problem {
    int m, n, k, parts, whole, shares, few, many;
};

/// A tile's share of k for this block.
struct Work {
    int m0, n0, k_first, k_steps;
    /// TN: where the partial sums go, and the tile's column among all.
    int slot, column;
};

/// TN: how pairs of tiles × steps of k are cut. Items are (part of k, tile) in that order; the first `whole` go to the
/// clusters in turn, so that what runs at a time reads the same few ranges of k from L2; the rest is cut into equal
/// shares ("stream-K"), neighbouring ones for a cluster. Who takes what changes no bit: every item and every share is a
/// partial sum of its own.
struct Partition {
    int tiles, k_steps, parts, whole, shares;

    DEVICE int begin(int part) const { return static_cast<uint32_t>(k_steps) * part / parts; }
    /// Steps before an item.
    DEVICE uint32_t position(int item) const {
        const int part = item / tiles;
        return static_cast<uint32_t>(begin(part)) * tiles + item % tiles * (begin(part + 1) - begin(part));
    }
    DEVICE uint32_t work() const { return static_cast<uint32_t>(tiles) * k_steps; }
    DEVICE int items() const { return tiles * parts; }
    /// The first step of the rest that is in a share. The host sees to it that this fits 32 bits.
    DEVICE uint32_t share_begin(int share) const {
        const uint32_t first = position(whole);
        return first + (work() - first) * share / shares;
    }
};

/// The work of this cluster, in order.
template <Layout LAYOUT, int BN> struct Schedule {
    int pairs, columns, rank, next, end;
    Partition partition;
    /// TN: the next share, and the first step that is left of the one before it.
    int share;
    uint32_t position;

    DEVICE explicit Schedule(const Problem &of) {
        pairs = ceil_div(of.m, BLOCKS * BM);
        columns = ceil_div(of.n, BN);
        rank = cluster_rank();
        next = cluster_index();
        partition = {pairs * columns, ceil_div(of.k, BK), of.parts, of.whole, of.shares};
        end = LAYOUT == Layout::TN ? of.whole : partition.tiles;
        if constexpr (LAYOUT == Layout::TN) {
            share = first_share(of, cluster_index());
            position = partition.share_begin(share);
        }
    }

    DEVICE bool more() const { return next < end; }

    /// Of a cluster.
    static DEVICE int first_share(const Problem &of, int index) {
        const int ahead = of.whole % cluster_count();  // clusters that have had an item more
        return min(min(index, ahead) * of.few + max(index - ahead, 0) * of.many, of.shares);
    }

    DEVICE bool take(Work &work, const Problem &of) {
        int pair;
        if constexpr (LAYOUT == Layout::TN) {
            int item;
            if (more()) {
                item = work.slot = next;
                next += cluster_count();
                work.k_first = partition.begin(item / partition.tiles);
                work.k_steps = partition.begin(item / partition.tiles + 1) - work.k_first;
            } else {
                // At first, after each share, and where one is empty.
                while (position == partition.share_begin(share)) {
                    if (share >= first_share(of, cluster_index() + 1)) return false;
                    share++;
                }
                // The last part that begins at or before k.
                const uint32_t k = position / partition.tiles;
                const int part = ((k + 1) * partition.parts - 1) / partition.k_steps;
                const int begin = partition.begin(part), steps = partition.begin(part + 1) - begin;
                const int within = position - static_cast<uint32_t>(begin) * partition.tiles;
                item = part * partition.tiles + within / steps;
                work.slot = item + share - 1;
                work.k_first = begin + within % steps;
                work.k_steps = min(steps - within % steps, static_cast<int>(partition.share_begin(share) - position));
                position += work.k_steps;
            }
            const int tile = item % partition.tiles;
            pair = tile / columns, work.column = tile % columns;
        } else {
            if (!more()) return false;
            const int group = next / (GROUP * columns), within = next % (GROUP * columns);
            const int height = min(pairs - group * GROUP, GROUP);
            pair = group * GROUP + within % height, work.column = within / height;
            work.k_first = 0, work.k_steps = partition.k_steps;
            next += cluster_count();
        }
        work.m0 = (pair * BLOCKS + rank) * BM;
        work.n0 = work.column * BN;
        return true;
    }
};

/// Warpgroup 0: one thread loads everything.
template <Layout LAYOUT, Epilogue EPILOGUE, bool PINGPONG>
DEVICE void produce(const TensorMap *a, const TensorMap *b, const TensorMap *aux, const Problem &of,
                    Ring<Config<PINGPONG>::STAGES, Config<PINGPONG>::STAGE, BLOCKS> ring) {
    using C = Config<PINGPONG>;
    constexpr uint16_t ALL = (1 << BLOCKS) - 1;
    const int rank = cluster_rank();
    Schedule<LAYOUT, C::BN> schedule(of);
    Work work;
    uint32_t step = 0;
    prefetch_tensormap(a);
    prefetch_tensormap(b);
    while (schedule.take(work, of)) {
        for (int i = 0; i < work.k_steps; i++, step++) {
            const int depth = (work.k_first + i) * BK;
            const uint32_t tile_a = ring.stage(step), tile_b = tile_a + C::A_BYTES, full = ring.full(step);
            ring.wait_empty(step);
            mbarrier_arrive_expect_tx(full, C::STAGE);
            if constexpr (LAYOUT == Layout::TN) {
                tma_load(tile_a, a, full, work.m0, depth);
                tma_load(tile_a + PIECE, a, full, work.m0 + 64, depth);
            } else {
                tma_load(tile_a, a, full, depth, work.m0);
            }
            // Half of b, for both blocks.
            const uint32_t half = tile_b + rank * (C::B_BYTES / BLOCKS);
            const int n0 = work.n0 + rank * (C::BN / BLOCKS);
            if constexpr (LAYOUT == Layout::NT) {
                tma_load_multicast(half, b, full, ALL, depth, n0);
            } else {
#pragma unroll
                for (int j = 0; j < C::BN / BLOCKS / 64; j++)
                    tma_load_multicast(half + j * PIECE, b, full, ALL, n0 + j * 64, depth);
            }
        }
        if constexpr (reads_aux(EPILOGUE)) {
#pragma unroll
            for (int i = 0; i < C::AUX_STEPS; i++, step++) {
                const uint32_t tile = ring.stage(step), full = ring.full(step);
                ring.wait_empty(step);
                mbarrier_arrive_expect_tx(full, 4 * PIECE);
                tma_load(tile, aux, full, work.n0 + i * 128, work.m0);
                tma_load(tile + 2 * PIECE, aux, full, work.n0 + i * 128 + 64, work.m0);
            }
        }
    }
}

/// Warps 2 and 3 of the producer's warpgroup, TN only: column sums of a, from the stages. The blocks that share a's
/// tile (its columns of tiles) take the steps in turn. Each warp sums 32 of a step's 64 rows: lane l columns 8·(l % 16)
/// … + 7, rows of parity l / 16.
template <int BN, typename R> DEVICE void sum_columns(float *sums, const Problem &of, R ring) {
    const int warp = warp_id() - 2, lane = lane_id(), chunk = lane & 15;
    Schedule<Layout::TN, BN> schedule(of);
    Work work;
    uint32_t step = 0;
    while (schedule.take(work, of)) {
        float total[8] = {};
        for (int i = 0; i < work.k_steps; i++, step++) {
            ring.wait_full(step);
            if (sums != nullptr && (work.k_first + i) % schedule.columns == work.column) {
                const uint32_t tile = ring.stage(step) + (chunk >> 3) * PIECE;
#pragma unroll 4
                for (int row = warp * 32 + (lane >> 4); row < warp * 32 + 32; row += 2) {
                    float x[8];
                    unpack<bf16>(load_shared_x4(tile + row * 128 + (((chunk ^ row) & 7) << 4)), x);
#pragma unroll
                    for (int e = 0; e < 8; e++) total[e] += x[e];
                }
            }
            fence_async_shared();
            __syncwarp();
            if (lane == 0) mbarrier_arrive(ring.empty(step));
        }
        if (sums != nullptr) {
#pragma unroll
            for (int e = 0; e < 8; e++) total[e] += __shfl_down_sync(FULL_WARP, total[e], 16);
            if (lane < 16)
                store<8>(
                    sums + (static_cast<size_t>(work.slot) * 2 + warp) * (BLOCKS * BM) + schedule.rank * BM + chunk * 8,
                    total);
        }
    }
}

/// Stores two neighbouring f32 of a row where they lie inside.
DEVICE void put_pair(float *y, uint32_t stride, int row, int column, int m, int n, float x0, float x1) {
    if (row >= m || column >= n) return;
    y += static_cast<size_t>(row) * stride + column;
    if (column + 1 < n && (reinterpret_cast<uintptr_t>(y) & 7) == 0) {
        *reinterpret_cast<float2 *>(y) = make_float2(x0, x1);
    } else {
        y[0] = x0;
        if (column + 1 < n) y[1] = x1;
    }
}

/// What the consumers need beside the operands.
struct Output {
    const TensorMap *y, *h;
    const bf16 *bias;
    float *f32;
    uint32_t stride;
};

/// Adds step `ring` of the product to 64 · ROW_BLOCKS rows of accumulators.
template <Layout LAYOUT, bool PINGPONG, int ROWS, int HALF>
DEVICE void multiply(float (&acc)[ROWS][HALF], uint32_t tile, int row_block, bool first) {
    using C = Config<PINGPONG>;
    constexpr Major MAJOR_A = LAYOUT == Layout::TN ? MN_MAJOR : K_MAJOR,
                    MAJOR_B = LAYOUT == Layout::NT ? K_MAJOR : MN_MAJOR;
    constexpr uint32_t NEXT_A = MAJOR_A == K_MAJOR ? 32 : 16 * 128, NEXT_B = MAJOR_B == K_MAJOR ? 32 : 16 * 128;
    wgmma_fence();
#pragma unroll
    for (int kk = 0; kk < BK / 16; kk++) {
        const uint64_t b = wgmma_descriptor(tile + C::A_BYTES + kk * NEXT_B, PIECE, 1024, SWIZZLE_128);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const uint64_t a = wgmma_descriptor(tile + (row_block + i) * PIECE + kk * NEXT_A, PIECE, 1024, SWIZZLE_128);
            wgmma_ss<C::BN, MAJOR_A, MAJOR_B>(acc[i], a, b, !(first && kk == 0));
        }
    }
    wgmma_commit();
}

/// A consumer: 128 threads, their place in the tile and their own shared memory.
struct Consumer {
    int index, thread, warp, lane;
    uint32_t staging, bias;

    DEVICE void barrier() const { named_barrier_sync(CONSUMER_BARRIER + index, 128); }
};

/// Where the lane's row of the four 8×8 matrices of columns 16·pair … + 15 lies in a piece: matrix q holds rows + 8·(q
/// % 2), columns + 8·(q / 2).
DEVICE uint32_t swizzled(const Consumer &at, int pair) {
    const int line = at.warp * 16 + (at.lane & 15), chunk = pair * 2 + (at.lane >> 4);
    return line * 128 + ((chunk ^ (line & 7)) << 4);
}

/// Columns of 8 and 2 rows of a fragment: x[j][0..1] row g columns 8j + 2t, + 1; x[j][2..3] row g + 8.
using Piece = float[8][4];

/// Rounds a piece, and its GELU where there is one, into shared memory and lets the copy engine write it. `number`
/// counts a tile's pieces.
template <Epilogue EPILOGUE, typename Read>
DEVICE void store_piece(const Consumer &at, const Output &out, const Problem &of, const Piece &x, int number, int row,
                        int column, Read &&all_have_read) {
    constexpr bool BOTH = EPILOGUE == Epilogue::GELU;
    uint32_t y[8][2], h[8][2];
#pragma unroll
    for (int j = 0; j < 8; j++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const float left = x[j][e * 2], right = x[j][e * 2 + 1];
            h[j][e] = pack<bf16>(left, right);
            y[j][e] = BOTH ? pack<bf16>(gelu(left), gelu(right)) : h[j][e];
        }
    }
    // The place must have been read by the store before last (GELU: both places by the last one).
    const uint32_t piece = at.staging + (BOTH ? 0 : number % 2 * PIECE);
    if (at.thread == 0) tma_store_wait_read<BOTH ? 0 : 1>();
    at.barrier();
    all_have_read();
#pragma unroll
    for (int pair = 0; pair < 4; pair++) {
        const int j = pair * 2;
        stmatrix_x4(piece + swizzled(at, pair), y[j][0], y[j][1], y[j + 1][0], y[j + 1][1]);
        if constexpr (BOTH) stmatrix_x4(piece + PIECE + swizzled(at, pair), h[j][0], h[j][1], h[j + 1][0], h[j + 1][1]);
    }
    fence_async_shared();
    at.barrier();
    if (at.thread == 0) {
        if (row < of.m && column < of.n) {
            tma_store(out.y, piece, column, row);
            if constexpr (BOTH) tma_store(out.h, piece + PIECE, column, row);
        }
        tma_store_commit();
    }
}

/// Adds the residual of a piece at `tile`, or multiplies by GELU′ of it.
template <Epilogue EPILOGUE> DEVICE void combine(const Consumer &at, Piece &x, uint32_t tile) {
#pragma unroll
    for (int pair = 0; pair < 4; pair++) {
        uint32_t words[4];
        ldmatrix_x4(words, tile + swizzled(at, pair));
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const float2 old = unpack<bf16>(words[q]);
            float &left = x[pair * 2 + q / 2][q % 2 * 2], &right = x[pair * 2 + q / 2][q % 2 * 2 + 1];
            if constexpr (EPILOGUE == Epilogue::RESIDUAL) {
                left += old.x, right += old.y;
            } else {
                left *= gelu_derivative(old.x), right *= gelu_derivative(old.y);
            }
        }
    }
    fence_async_shared();
}

/// Everything after the last step of a tile but PARTIAL. `aux_step` is the ring's first step of the residual or h.
template <Epilogue EPILOGUE, bool PINGPONG, int ROWS, int HALF, typename R>
DEVICE void finish(const Consumer &at, const Output &out, const Problem &of, const float (&acc)[ROWS][HALF],
                   const Work &work, uint32_t aux_step, R ring) {
    constexpr int COLUMNS = HALF / 32;
    const int row_block = PINGPONG ? 0 : at.index, g = at.lane >> 2, t = at.lane & 3;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const int row = work.m0 + (row_block + i) * 64;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int column = work.n0 + c * 64;
            Piece x;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float2 b = make_float2(0.0f, 0.0f);
                if constexpr (biased(EPILOGUE)) b = load_shared_f32x2(at.bias + (c * 64 + j * 8 + t * 2) * 4);
                const float *d = &acc[i][(c * 8 + j) * 4];
                x[j][0] = d[0] + b.x, x[j][1] = d[1] + b.y, x[j][2] = d[2] + b.x, x[j][3] = d[3] + b.y;
            }
            if constexpr (EPILOGUE == Epilogue::BIAS_F32) {
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const int r = row + at.warp * 16 + g;
                    put_pair(out.f32, out.stride, r, column + j * 8 + t * 2, of.m, of.n, x[j][0], x[j][1]);
                    put_pair(out.f32, out.stride, r + 8, column + j * 8 + t * 2, of.m, of.n, x[j][2], x[j][3]);
                }
            } else {
                const uint32_t step = aux_step + c / 2;
                if constexpr (reads_aux(EPILOGUE)) {
                    combine<EPILOGUE>(at, x, ring.stage(step) + c % 2 * 2 * PIECE + (row_block + i) * PIECE);
                }
                const bool last_of_step = i == ROWS - 1 && c % 2 == 1;
                store_piece<EPILOGUE>(at, out, of, x, i * COLUMNS + c, row, column, [&] {
                    if (reads_aux(EPILOGUE) && last_of_step) ring.release(step, at.thread);
                });
            }
        }
    }
}

/// Stores the partial sums of a share of k.
template <int HALF> DEVICE void store_partial(const Consumer &at, const float (&acc)[HALF], float *part) {
    constexpr int BN = HALF * 2;
    part += (at.index * 64 + at.warp * 16 + (at.lane >> 2)) * BN + (at.lane & 3) * 2;
#pragma unroll
    for (int j = 0; j < BN / 8; j++) {
        store<2>(part + j * 8, {acc[j * 4], acc[j * 4 + 1]});
        store<2>(part + j * 8 + 8 * BN, {acc[j * 4 + 2], acc[j * 4 + 3]});
    }
}

/// Warpgroups 1 and 2.
template <Layout LAYOUT, Epilogue EPILOGUE, bool PINGPONG>
DEVICE void consume(const Output &out, const Problem &of, uint32_t shared,
                    Ring<Config<PINGPONG>::STAGES, Config<PINGPONG>::STAGE, BLOCKS> ring) {
    using C = Config<PINGPONG>;
    constexpr int PER_THREAD = C::BN / 128;
    const int index = warp_id() / 4 - 1;
    const Consumer at{index,     static_cast<int>(threadIdx.x & 127),     warp_id() & 3,
                      lane_id(), shared + C::STAGING + index * 2 * PIECE, shared + C::BIAS + index * C::BN * 4};
    const int row_block = PINGPONG ? 0 : index;
    Schedule<LAYOUT, C::BN> schedule(of);
    Work work;
    uint32_t step = 0;
    float acc[C::ROW_BLOCKS][C::BN / 2] = {};
    for (int number = 0; schedule.take(work, of); number++) {
        const uint32_t first = step, aux_step = first + work.k_steps;
        step = aux_step + (reads_aux(EPILOGUE) ? C::AUX_STEPS : 0);
        if (PINGPONG && (number & 1) != index) continue;

        float bias[PER_THREAD];
        if constexpr (biased(EPILOGUE)) {
#pragma unroll
            for (int i = 0; i < PER_THREAD; i++) {
                const int column = work.n0 + at.thread + i * 128;
                bias[i] = out.bias != nullptr && column < of.n ? to_f32(out.bias[column]) : 0.0f;
            }
        }
        // In turn: also because a parity tells a stage's rounds apart only for who has seen the round before (or knows
        // someone who has).
        if (PINGPONG && number > 0) named_barrier_sync(TURN_BARRIER + index, 256);
        for (int i = 0; i < work.k_steps; i++) {
            ring.wait_full(first + i);
            multiply<LAYOUT, PINGPONG>(acc, ring.stage(first + i), row_block, i == 0);
            // The step before is over once this one alone is in flight.
            wgmma_wait<1>();
            if (i > 0) ring.release(first + i - 1, at.thread);
        }
        if constexpr (reads_aux(EPILOGUE)) {
            for (uint32_t aux = aux_step; aux < step; aux++) ring.wait_full(aux);
        }
        if (PINGPONG && schedule.more()) named_barrier_arrive(TURN_BARRIER + (index ^ 1), 256);
        wgmma_wait<0>();
        ring.release(aux_step - 1, at.thread);
#pragma unroll
        for (int i = 0; i < C::ROW_BLOCKS; i++) wgmma_pin(acc[i]);

        if constexpr (EPILOGUE == Epilogue::PARTIAL) {
            store_partial(at, acc[0],
                          out.f32 + (static_cast<size_t>(work.slot) * BLOCKS + schedule.rank) * (BM * C::BN));
        } else {
            if constexpr (biased(EPILOGUE)) {
                // Everyone has read the last tile's bias: store_piece has a barrier after it, the f32 epilogue has
                // none.
                if constexpr (EPILOGUE == Epilogue::BIAS_F32) at.barrier();
#pragma unroll
                for (int i = 0; i < PER_THREAD; i++)
                    store_shared(at.bias + (at.thread + i * 128) * 4, __float_as_uint(bias[i]));
                at.barrier();
            }
            finish<EPILOGUE, PINGPONG>(at, out, of, acc, work, aux_step, ring);
        }
    }
    if (at.thread == 0) tma_store_wait<0>();
}

template <Layout LAYOUT, Epilogue EPILOGUE, bool PINGPONG>
DEVICE void product(const TensorMap *a, const TensorMap *b, const TensorMap *aux, const Output &out, float *sums,
                    const Problem &of) {
    using C = Config<PINGPONG>;
    extern __shared__ __align__(1024) unsigned char memory[];
    const uint32_t shared = shared_address(memory);
    const Ring<C::STAGES, C::STAGE, BLOCKS> ring{shared, shared + C::BARRIERS};
    constexpr bool SUMS = LAYOUT == Layout::TN;
    if (threadIdx.x == 0) {
        for (int i = 0; i < C::STAGES; i++) {
            mbarrier_init(ring.full(i), 1);
            mbarrier_init(ring.empty(i), C::RELEASES * BLOCKS + (SUMS ? 2 : 0));
        }
        fence_mbarrier_init();
    }
    // No block may load into the other before that one's barriers are there.
    cluster_sync();
    if (threadIdx.x < 128) {
        decrease_registers<SUMS ? 56 : 40>();  // who sums columns walks over shares beside them
        if (warp_id() == 0) {
            if (elect_one()) produce<LAYOUT, EPILOGUE, PINGPONG>(a, b, aux, of, ring);
        } else if (SUMS && warp_id() >= 2) {
            sum_columns<C::BN>(sums, of, ring);
        }
    } else {
        increase_registers<SUMS ? 224 : 232>();
        consume<LAYOUT, EPILOGUE, PINGPONG>(out, of, shared, ring);
    }
    // No block leaves while the other may still load into it or arrive at its barriers.
    __syncwarp();
    cluster_sync();
}

} // namespace

// Maps: a, b in boxes of 64 k × 128 rows (a) and BN/2 rows (b) where K-major, else 64 m or n × 64 k; y and GELU's aux
// 64 × 64; a residual's or GELU′'s aux 64 × 128; all with the 128-byte swizzle. Unused maps are any valid map.
#define GEMM(NAME, LAYOUT, EPILOGUE, PINGPONG)                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) NAME(                                                     \
        const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap y, \
        const __grid_constant__ TensorMap aux, const bf16 *OR_NULL bias, int m, int n, int k) {                        \
        const Output out{&y, &aux, bias, nullptr, 0};                                                                  \
        product<Layout::LAYOUT, Epilogue::EPILOGUE, PINGPONG>(&a, &b, &aux, out, nullptr, {m, n, k, 1});               \
    }
GEMM(gemm_sm90_nt_bias_cooperative_bf16, NT, BIAS, false)
GEMM(gemm_sm90_nt_bias_pingpong_bf16, NT, BIAS, true)
GEMM(gemm_sm90_nt_gelu_pingpong_bf16, NT, GELU, true)
GEMM(gemm_sm90_nt_residual_cooperative_bf16, NT, RESIDUAL, false)
GEMM(gemm_sm90_nt_residual_pingpong_bf16, NT, RESIDUAL, true)
GEMM(gemm_sm90_nn_cooperative_bf16, NN, BIAS, false)
GEMM(gemm_sm90_nn_pingpong_bf16, NN, BIAS, true)
GEMM(gemm_sm90_nn_gelu_backward_pingpong_bf16, NN, GELU_BACKWARD, true)

/// f32 out, any stride and alignment.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    gemm_sm90_nt_bias_pingpong_f32(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                                   float *y, const bf16 *OR_NULL bias, int m,
                                   int n, int k, uint32_t y_stride) {
    const Output out{nullptr, nullptr, bias, y, y_stride};
    product<Layout::NT, Epilogue::BIAS_F32, true>(&a, &b, nullptr, out, nullptr, {m, n, k, 1});
}

/// `pieces` of partial products, 256 × 256 each, and `sums` (may be null): 2 × 256 each. An item of the first `whole`
/// is piece `item`, what a share has of a later item is piece item + share.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    gemm_sm90_tn_partial_f32(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                             float *pieces, float *OR_NULL sums, int m, int n,
                             int k, int parts, int whole, int shares, int few, int many) {
    const Output out{nullptr, nullptr, nullptr, pieces, 0};
    product<Layout::TN, Epilogue::PARTIAL, false>(&a, &b, nullptr, out, sums,
                                                  {m, n, k, parts, whole, shares, few, many});
}

namespace {

/// Calls `add` with the pieces of a tile in the order of k.
template <typename Add> DEVICE void for_each_piece(const Partition &of, int tile, Add &&add) {
    const uint32_t first = of.position(of.whole), rest = of.work() - first;
    for (int item = tile; item < of.items(); item += of.tiles) {
        if (item < of.whole) {
            add(item);
            continue;
        }
        const int part = item / of.tiles;
        const uint32_t begin = of.position(item) - first, end = begin + of.begin(part + 1) - of.begin(part);
        // The last share that begins at or before step x is ⌈(x + 1)·shares / rest⌉ − 1.
        const int last = item + (end * of.shares - 1) / rest;
        for (int piece = item + ((begin + 1) * of.shares - 1) / rest; piece <= last; piece++) add(piece);
    }
}

} // namespace

/// dw[m,n] += Σ pieces, db[m] += Σ pieces (db may be null). Blocks of 256 threads: (⌈n/256⌉, ⌈m/16⌉), 4 neighbouring
/// values of 4 rows per thread; blocks of the first column do db as well.
extern "C" __global__ void __launch_bounds__(256)
    gemm_sm90_sum_f32(float *dw, const float *pieces, float *OR_NULL db, const float *sum_pieces, int m, int n,
                      int k_steps, int parts, int whole,
                      int shares) {
    constexpr int SIDE = 256;
    const int columns = gridDim.x, column_tile = blockIdx.x, row_tile = blockIdx.y / (SIDE / 16);
    const Partition of{ceil_div(m, SIDE) * columns, k_steps, parts, whole, shares};
    const int x = threadIdx.x % 64 * 4, column = column_tile * SIDE + x,
              first_row = blockIdx.y * 16 + threadIdx.x / 64 * 4;
    float total[4][4] = {};
    for_each_piece(of, row_tile * columns + column_tile, [&](int piece) {
        const float *source = pieces + static_cast<size_t>(piece) * SIDE * SIDE + first_row % SIDE * SIDE + x;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float part[4];
            load<4>(source + i * SIDE, part);
#pragma unroll
            for (int e = 0; e < 4; e++) total[i][e] += part[e];
        }
    });
    const bool vector = (reinterpret_cast<uintptr_t>(dw) & 15) == 0 && n % 4 == 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (first_row + i >= m) break;
        float *target = dw + static_cast<size_t>(first_row + i) * n + column;
        if (vector && column < n) {
            float old[4];
            load<4>(target, old);
#pragma unroll
            for (int e = 0; e < 4; e++) old[e] += total[i][e];
            store<4>(target, old);
        } else {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (column + e < n) target[e] += total[i][e];
            }
        }
    }
    const int row = blockIdx.y * 16 + threadIdx.x;
    if (db != nullptr && column_tile == 0 && threadIdx.x < 16 && row < m) {
        float sum = 0.0f;
        for (int j = 0; j < columns; j++) {
            for_each_piece(of, row_tile * columns + j, [&](int piece) {
                const float *source = sum_pieces + static_cast<size_t>(piece) * 2 * SIDE + row % SIDE;
                sum += source[0];
                sum += source[SIDE];
            });
        }
        db[row] += sum;
    }
}

// Of the schedules first cooperative, then ping-pong.
EXPORT(THREADS, THREADS)
EXPORT(BLOCKS, BLOCKS)
EXPORT(ROWS, BM)
EXPORT(DEPTH, BK)
EXPORT(COLUMNS, Config<false>::BN, Config<true>::BN)
EXPORT(SHARED, Config<false>::SHARED, Config<true>::SHARED)
