// Convolutions and linear layers of the generator on Hopper: conv.cu's products and epilogue through TMA, mbarriers and wgmma.
//
// The copy engine gathers: a subtile of 64 consecutive output pixels × 64 channels of one tap is one box of the source in im2col mode
// (padding reads as zero, stride 2 is the map's), or of [image, pixel, channel] where there is one tap. Any channels and outputs that are
// multiples of 8, any height and width; of enlargements the twofold one by phases (conv.cuh). Channels past a tensor's last read as zero, so w's columns there
// (another tap's) do not matter.
//
// One block per SM, in clusters of two along the pixels that share the tile of w: each loads half of it into both (multicast). Persistent: a
// cluster takes one pair of tiles after the other. Warpgroup 0 produces (one thread issues all loads), 1 and 2 consume: 128 pixels × BN outputs
// each, BN = 160 (all widths of Stable Diffusion 1.5's UNet are multiples) or 128 (its VAE's).
//
// Two schedules. COOPERATIVE: 256 × BN per block, half for each consumer; least traffic per FLOP (33 bytes per cycle and SM from L2 at BN = 160
// and the tensor cores' full rate). PING-PONG: 128 × BN, consumers take tiles in turn, so one's epilogue runs while the other multiplies; for
// short K (41 bytes per cycle).
//
// Epilogue per subtile: registers → shared memory (a residual lies there before, so it is added in f32) → rows of 16-byte pieces → memory;
// moments of what was rounded, by columns.
//
// Order of additions: k ascending in steps of 16 for every output, whatever the tile, the schedule and the other images; moments: rows
// ascending. Images of few pixels at small batches leave most SMs idle: k is never split, as that would follow the batch.
//
// Version 1 (static figures, nvcc 13.0): 168 registers per thread at launch, then 56 (producer) and 224 (consumers), no spills, no serialised
// wgmma; one block of 384 threads per SM with 204,080 / 228,688 (BN = 160: cooperative / ping-pong) or 183,344 / 199,760 bytes of shared
// memory. FLOPs 2·pixels·outputs·K (phases: 4/9 of the nine taps'); bound by the tensor cores but for 1×1 layers at 320 channels.
// Predicted µs on an H200 that sustains 790 TF/s, 64 rows (32 images, both branches), levels 64² × 320, 32² × 640, 16² × 1280, 8² × 1280:
//   3×3, C → C   669  652  644  161     3×3 of the joined input, the widest   1940  1924  1280  320     with its shortcut as k   880  864  785  196
//   stride 2     167  163  161   –      enlargement by phases (from below)    1184  1163   291   –
//   GEGLU        586  588  593  152     C → 3C   222  222  227  58     C → C  82 (memory)  77  77  20     4C → C   302  299  291  73
// i.e. 0.91–0.96 of that rate for 3×3 and 0.87–0.93 for linear layers (what is missing: epilogues, last rounds, L2 traffic of the
// ping-pong tiles by a guessed 1/128 per byte and cycle above 32). VAE at 8 images: 512² × 128: 889, 512² × 256 → 128: 1776, 256² × 256: 896.
#include "common/conv.cuh"
#include "common/raster.cuh"
#include "common/reduce.cuh"
#include "common/ring.cuh"

namespace {

constexpr int BK = 64;
constexpr int THREADS = 384;
constexpr int BLOCKS = 2; // of a cluster
constexpr int GROUP = 8;
/// A subtile of 64 channels, or 64 rows of w: swizzled rows of 128 bytes.
constexpr int PIECE = RUN * 128;
/// Subtiles of a consumer.
constexpr int SUBTILES = 2;
/// Named barriers, one per consumer: its own, and its turn to multiply (ping-pong).
constexpr uint32_t CONSUMER_BARRIER = 1, TURN_BARRIER = 3;

template <int BN, bool PINGPONG> struct Config {
    /// Subtiles of a block's tile.
    static constexpr int HEIGHT = PINGPONG ? SUBTILES : 2 * SUBTILES;
    static constexpr int STAGES = PINGPONG ? 5 : 3;
    static constexpr int A_BYTES = HEIGHT * PIECE, B_BYTES = BN * BK * 2, STAGE = A_BYTES + B_BYTES;
    /// Consumers that release a stage, per block.
    static constexpr int RELEASES = PINGPONG ? 1 : 2;
    /// Shared memory: stages, a subtile of the output per consumer, a bias per consumer, barriers.
    static constexpr int STAGING_BYTES = RUN * Staging<bf16, BN>::PITCH;
    static constexpr int STAGING = STAGES * STAGE, BIAS = STAGING + 2 * STAGING_BYTES, BARRIERS = BIAS + 2 * BN * 4;
    static constexpr int SHARED = BARRIERS + 2 * STAGES * 8;
    static_assert(SHARED <= 232448, "one block's shared memory");
};

/// Sizes of the segments (no taps: none), of the convolved image, and steps of k in all.
struct Problem {
    Size size;
    int channels[3], taps[3], rows[3];
    int out_width, stride, steps;
};

/// Tiles of this cluster in order: `take` gives the block's first subtile and the number of the column of tiles.
template <int HEIGHT, int BN> struct Schedule {
    int pairs, columns, next;

    DEVICE explicit Schedule(const Size &of) {
        pairs = ceil_div(of.images * of.runs(), BLOCKS * HEIGHT);
        columns = of.columns(BN);
        next = cluster_index();
    }

    DEVICE bool more() const { return next < pairs * columns; }

    DEVICE bool take(int &subtile, int &column) {
        if (!more()) return false;
        const int2 tile = raster<GROUP>(next, pairs, columns);
        subtile = (tile.x * BLOCKS + cluster_rank()) * HEIGHT, column = tile.y;
        next += cluster_count();
        return true;
    }
};

/// Warpgroup 0: one thread loads everything.
template <int BN, bool PINGPONG, typename R>
DEVICE void produce(const TensorMap *x0, const TensorMap *x1, const TensorMap *x2, const TensorMap *w, const Problem &of, R ring) {
    using C = Config<BN, PINGPONG>;
    constexpr uint16_t ALL = (1 << BLOCKS) - 1;
    const int half = cluster_rank() * (BN / BLOCKS);
    Schedule<C::HEIGHT, BN> schedule(of.size);
    int subtile, number;
    uint32_t step = 0;
    prefetch_tensormap(x0);
    prefetch_tensormap(w);
    while (schedule.take(subtile, number)) {
        const Column column(number, BN, of.size);
        int image[C::HEIGHT], first[C::HEIGHT], top[C::HEIGHT], left[C::HEIGHT];
#pragma unroll
        for (int i = 0; i < C::HEIGHT; i++) {
            const Run run(subtile + i, of.size, column.phase);
            image[i] = run.image, first[i] = run.first;
            top[i] = run.first / of.out_width * of.stride - 1, left[i] = run.first % of.out_width * of.stride - 1;
        }
        int k = 0;
#pragma unroll
        for (int s = 0; s < 3; s++) {
            const TensorMap *x = s == 0 ? x0 : s == 1 ? x1 : x2;
            const int channels = of.channels[s], taps = of.taps[s], side = taps == 9 ? 3 : 2;
            int from[C::HEIGHT];
#pragma unroll
            for (int i = 0; i < C::HEIGHT; i++) {
                // Past the last image: outside of the source, zeros.
                from[i] = image[i] < of.size.images ? image[i] % of.rows[s] : of.rows[s];
            }
#pragma unroll 1
            for (int tap = 0; tap < taps; tap++, k += channels) {
                const int right = tap % side + (column.phase & 1), down = tap / side + (column.phase >> 1);
#pragma unroll 1
                for (int c = 0; c < channels; c += BK, step++) {
                    const uint32_t tile = ring.stage(step), full = ring.full(step);
                    ring.wait_empty(step);
                    mbarrier_arrive_expect_tx(full, C::STAGE);
#pragma unroll
                    for (int i = 0; i < C::HEIGHT; i++) {
                        if (taps > 1) {
                            tma_load_im2col(tile + i * PIECE, x, full, c, left[i], top[i], from[i], right, down);
                        } else {
                            tma_load(tile + i * PIECE, x, full, c, first[i], from[i]);
                        }
                    }
                    tma_load_multicast(tile + C::A_BYTES + half * (BK * 2), w, full, ALL, k + c, column.row + half);
                }
            }
        }
    }
}

/// Adds a step of the product to the consumer's two subtiles.
template <typename T, int BN> DEVICE void multiply(float (&acc)[SUBTILES][BN / 2], uint32_t a, uint32_t b, bool first) {
    wgmma_fence();
#pragma unroll
    for (int kk = 0; kk < BK / 16; kk++) {
        const uint64_t right = wgmma_descriptor(b + kk * 32, 0, 1024, SWIZZLE_128);
#pragma unroll
        for (int i = 0; i < SUBTILES; i++) {
            const uint64_t left = wgmma_descriptor(a + i * PIECE + kk * 32, 0, 1024, SWIZZLE_128);
            wgmma_ss<BN, K_MAJOR, K_MAJOR, T>(acc[i], left, right, !(first && kk == 0));
        }
    }
    wgmma_commit();
}

/// A consumer: 128 threads and their own shared memory.
struct Consumer {
    int index, thread;
    uint32_t staging, bias;

    DEVICE void barrier() const { named_barrier_sync(CONSUMER_BARRIER + index, 128); }
};

/// A subtile's sums: activation, residual, rounding, moments. CHUNKS pieces of 8 columns come out.
template <int BN, int CHUNKS, typename T>
DEVICE void put(const Consumer &at, const Size &of, const Epilogue<T> &end, const float (&x)[BN / 2], const Run &run, int n0) {
    using Out = Staging<T, BN>;
    const int width = of.outputs * CHUNKS / (BN / 8), first = n0 * CHUNKS / (BN / 8);
    const bool residual = end.residual != nullptr;
    if (residual) {
        Out::template load<CHUNKS>(at.staging, run, end, of, first, width, at.thread, 128);
        at.barrier();
    }
    const int row = at.thread / 32 * 16 + (at.thread % 32 >> 2);
#pragma unroll
    for (int j = 0; j < CHUNKS; j++) {
        const uint32_t place = at.staging + row * Out::PITCH + j * 16 + (at.thread & 3) * 4;
        stage_pair<T>(place, x[j * 4], x[j * 4 + 1], residual);
        stage_pair<T>(place + 8 * Out::PITCH, x[j * 4 + 2], x[j * 4 + 3], residual);
    }
    at.barrier();
    Out::template store<CHUNKS>(at.staging, run, end, of, first, width, at.thread, 128);
    if (end.moments != nullptr) Out::template moments<CHUNKS>(at.staging, run, end, of.runs(), first, width, at.thread, 128);
}

/// Warpgroups 1 and 2.
template <typename T, int BN, bool PINGPONG, typename R>
DEVICE void consume(const Problem &of, const Epilogue<T> &end, uint32_t shared, R ring) {
    using C = Config<BN, PINGPONG>;
    constexpr int PER_THREAD = ceil_div(BN, 128);
    const int index = warp_id() / 4 - 1;
    const Consumer at{index, static_cast<int>(threadIdx.x & 127), shared + C::STAGING + index * C::STAGING_BYTES,
                      shared + C::BIAS + index * BN * 4};
    const int lower = PINGPONG ? 0 : index * SUBTILES;
    const float *const row = end.bias_row();
    Schedule<C::HEIGHT, BN> schedule(of.size);
    int subtile, tile_column;
    uint32_t first = 0;
    float acc[SUBTILES][BN / 2] = {};
    for (int number = 0; schedule.take(subtile, tile_column); number++, first += of.steps) {
        if (PINGPONG && (number & 1) != index) continue;
        const Column place(tile_column, BN, of.size);

        float bias[PER_THREAD];
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const int within = at.thread + i * 128, column = place.first + within;
            bias[i] = row != nullptr && within < BN && column < of.size.outputs ? row[column] : 0.0f;
        }
        // In turn: also because a parity tells a stage's rounds apart only for who has seen the round before (or knows someone who has).
        if (PINGPONG && number > 0) named_barrier_sync(TURN_BARRIER + index, 256);
        for (int i = 0; i < of.steps; i++) {
            ring.wait_full(first + i);
            const uint32_t tile = ring.stage(first + i);
            multiply<T, BN>(acc, tile + lower * PIECE, tile + C::A_BYTES, i == 0);
            // The step before is over once this one alone is in flight.
            wgmma_wait<1>();
            if (i > 0) ring.release(first + i - 1, at.thread);
        }
        if (PINGPONG && schedule.more()) named_barrier_arrive(TURN_BARRIER + (index ^ 1), 256);
        wgmma_wait<0>();
        ring.release(first + of.steps - 1, at.thread);
#pragma unroll
        for (int i = 0; i < SUBTILES; i++) wgmma_pin(acc[i]);

        // Everyone has read the last tile's bias: there was a barrier since.
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            if (at.thread + i * 128 < BN) store_shared(at.bias + (at.thread + i * 128) * 4, __float_as_uint(bias[i]));
        }
#pragma unroll
        for (int i = 0; i < SUBTILES; i++) {
            // The bias is there, and everyone has read the staging.
            at.barrier();
            finish<BN / 8>(end.activation, [&](int j, int e) -> float & { return acc[i][j * 4 + e]; },
                           [&](int j) { return load_shared_f32x2(at.bias + (j * 8 + (at.thread & 3) * 2) * 4); });
            const Run run(subtile + lower + i, of.size, place.phase);
            if (end.activation == GEGLU) {
                put<BN, BN / 16>(at, of.size, end, acc[i], run, place.first);
            } else {
                put<BN, BN / 8>(at, of.size, end, acc[i], run, place.first);
            }
        }
    }
}

template <typename T, int BN, bool PINGPONG>
DEVICE void convolution(const TensorMap *x0, const TensorMap *x1, const TensorMap *x2, const TensorMap *w, const Problem &of,
                        const Epilogue<T> &end) {
    using C = Config<BN, PINGPONG>;
    extern __shared__ __align__(1024) unsigned char memory[];
    const uint32_t shared = shared_address(memory);
    const Ring<C::STAGES, C::STAGE, BLOCKS> ring{shared, shared + C::BARRIERS};
    if (threadIdx.x == 0) {
        for (int i = 0; i < C::STAGES; i++) {
            mbarrier_init(ring.full(i), 1);
            mbarrier_init(ring.empty(i), C::RELEASES * BLOCKS);
        }
        fence_mbarrier_init();
    }
    // No block may load into the other before that one's barriers are there.
    cluster_sync();
    if (threadIdx.x < 128) {
        decrease_registers<56>();
        if (warp_id() == 0 && elect_one()) produce<BN, PINGPONG>(x0, x1, x2, w, of, ring);
    } else {
        increase_registers<224>();
        consume<T, BN, PINGPONG>(of, end, shared, ring);
    }
    // No block leaves while the other may still load into it or arrive at its barriers.
    __syncwarp();
    cluster_sync();
}

} // namespace

// Maps: x in boxes of 64 channels × 64 pixels (im2col for nine taps), w 64 × BN / 2, all with the 128-byte swizzle. Unused maps are any valid
// map. `step` (may be null) points to the row of the bias table; residual and moments may be null.
#define CONV(NAME, T, BN, PINGPONG)                                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 1)                                                                           \
        NAME(const __grid_constant__ TensorMap x0, const __grid_constant__ TensorMap x1, const __grid_constant__ TensorMap x2,         \
             const __grid_constant__ TensorMap w, T *y, const float *bias, const uint32_t *step, const T *residual, float *moments,    \
             int channels0, int channels1, int channels2, int taps0, int taps1, int taps2, int rows0, int rows1, int rows2,            \
             int images, int pixels, int outputs, int phase_width, int out_width, int stride, int steps, int bias_stride,              \
             int residual_rows, int activation) {                                                                                      \
        const Problem of{{images, pixels, outputs, phase_width}, {channels0, channels1, channels2}, {taps0, taps1, taps2},             \
                         {rows0, rows1, rows2}, out_width, stride, steps};                                                             \
        const Epilogue<T> end{y, bias, step, residual, moments, bias_stride, residual_rows, activation};                               \
        convolution<T, BN, PINGPONG>(&x0, &x1, &x2, &w, of, end);                                                                      \
    }
#define CONV_OF(T)                                                                                                                     \
    CONV(conv_sm90_160_cooperative_##T, T, 160, false)                                                                                 \
    CONV(conv_sm90_160_pingpong_##T, T, 160, true)                                                                                     \
    CONV(conv_sm90_128_cooperative_##T, T, 128, false)                                                                                 \
    CONV(conv_sm90_128_pingpong_##T, T, 128, true)
CONV_OF(f16)
CONV_OF(bf16)
