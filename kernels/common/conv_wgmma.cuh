// Convolutions and linear layers by TMA, mbarriers and wgmma on Hopper: what conv_sm90.cu (16-bit operands) and
// conv_e4m3_sm90.cu (8-bit) make their kernels of. The former explains them.
#pragma once
#include "conv.cuh"
#include "raster.cuh"
#include "reduce.cuh"
#include "ring.cuh"

namespace {

/// Bytes of a stage's row: 64 channels of 16 bits, 128 of 8.
constexpr int ROW = 128;
constexpr int THREADS = 384;
constexpr int BLOCKS = 2; // of a cluster
constexpr int GROUP = 8;
/// A subtile of a stage, or 64 rows of w: swizzled rows.
constexpr int PIECE = RUN * ROW;
/// Subtiles of a consumer.
constexpr int SUBTILES = 2;
/// Named barriers, one per consumer: its own, and its turn to multiply (ping-pong).
constexpr uint32_t CONSUMER_BARRIER = 1, TURN_BARRIER = 3;

template <typename In, int BN, bool PINGPONG> struct Config {
    /// Subtiles of a block's tile.
    static constexpr int HEIGHT = PINGPONG ? SUBTILES : 2 * SUBTILES;
    static constexpr int STAGES = PINGPONG ? 5 : 3;
    static constexpr int A_BYTES = HEIGHT * PIECE, B_BYTES = BN * ROW, STAGE = A_BYTES + B_BYTES;
    /// Consumers that release a stage, per block.
    static constexpr int RELEASES = PINGPONG ? 1 : 2;
    /// Sums of 8-bit products are scaled per output.
    static constexpr bool SCALED = sizeof(In) == 1;
    /// Shared memory: stages, a subtile of the output per consumer, a bias and scales per consumer, barriers.
    static constexpr int STAGING_BYTES = RUN * Staging<bf16, BN>::PITCH;
    static constexpr int STAGING = STAGES * STAGE, BIAS = STAGING + 2 * STAGING_BYTES,
                         SCALES = BIAS + 2 * BN * 4, BARRIERS = SCALES + (SCALED ? 2 * BN * 4 : 0);
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
template <typename In, int BN, bool PINGPONG, typename R>
DEVICE void produce(const TensorMap *x0, const TensorMap *x1, const TensorMap *x2, const TensorMap *w,
                    const Problem &of, R ring) {
    using C = Config<In, BN, PINGPONG>;
    constexpr int BK = ROW / sizeof(In);
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
                    tma_load_multicast(tile + C::A_BYTES + half * ROW, w, full, ALL, k + c, column.row + half);
                }
            }
        }
    }
}

/// Adds a step of the product, COUNT pieces of 32 bytes of its rows, to the consumer's two subtiles.
template <typename In, int BN, int COUNT>
DEVICE void multiply(float (&acc)[SUBTILES][BN / 2], uint32_t a, uint32_t b, bool first) {
    wgmma_fence();
#pragma unroll
    for (int kk = 0; kk < COUNT; kk++) {
        const uint64_t right = wgmma_descriptor(b + kk * 32, 0, 1024, SWIZZLE_128);
#pragma unroll
        for (int i = 0; i < SUBTILES; i++) {
            const uint64_t left = wgmma_descriptor(a + i * PIECE + kk * 32, 0, 1024, SWIZZLE_128);
            wgmma_ss<BN, K_MAJOR, K_MAJOR, In>(acc[i], left, right, !(first && kk == 0));
        }
    }
    wgmma_commit();
}

/// A consumer: 128 threads and their own shared memory.
struct Consumer {
    int index, thread;
    uint32_t staging, bias, scales;

    DEVICE void barrier() const { named_barrier_sync(CONSUMER_BARRIER + index, 128); }
};

/// A subtile's sums: activation, residual, rounding, moments. CHUNKS pieces of 8 columns come out.
template <bool SCALED, int BN, int CHUNKS, typename T>
DEVICE void put(Consumer at, const Size &of, const Epilogue<T> &end, const Quantized &by, const float (&x)[BN / 2],
                const Run &run, int n0) {
    using Out = Staging<T, BN>;
    const int width = of.outputs * CHUNKS / (BN / 8), first = n0 * CHUNKS / (BN / 8);
    const bool residual = end.residual != nullptr;
    // What follows from the thread is worked out here and not kept over the tiles: there is no register for it.
    if constexpr (SCALED) asm volatile("" : "+r"(at.thread));
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
    if constexpr (SCALED) {
        Out::template store<CHUNKS>(at.staging, run, end, by, of, first, width, at.thread, 128);
    } else {
        Out::template store<CHUNKS>(at.staging, run, end, of, first, width, at.thread, 128);
    }
    if (end.moments != nullptr)
        Out::template moments<CHUNKS>(at.staging, run, end, of.runs(), first, width, at.thread, 128);
}

/// Warpgroups 1 and 2.
template <typename In, typename T, int BN, bool PINGPONG, typename R>
DEVICE void consume(const Problem &of, const Epilogue<T> &end, const Quantized &by, uint32_t shared, R ring) {
    using C = Config<In, BN, PINGPONG>;
    constexpr int PER_THREAD = ceil_div(BN, 128);
    const int index = warp_id() / 4 - 1;
    const Consumer at{index, static_cast<int>(threadIdx.x & 127), shared + C::STAGING + index * C::STAGING_BYTES,
                      shared + C::BIAS + index * BN * 4, shared + C::SCALES + index * BN * 4};
    const int lower = PINGPONG ? 0 : index * SUBTILES;
    const float *const row = end.bias_row();
    // A tap's last step may be half empty, 320 channels being two rows and a half of 8 bits: its zeros are not
    // multiplied.
    constexpr int DEPTH = ROW / sizeof(In);
    const bool halves = C::SCALED && (of.channels[0] - 1) % DEPTH < DEPTH / 2;
    const int half_after = halves ? ceil_div(of.channels[0], DEPTH) : INT32_MAX;
    Schedule<C::HEIGHT, BN> schedule(of.size);
    int subtile, tile_column;
    uint32_t first = 0;
    float acc[SUBTILES][BN / 2] = {};
    for (int number = 0; schedule.take(subtile, tile_column); number++, first += of.steps) {
        if (PINGPONG && (number & 1) != index) continue;
        const Column place(tile_column, BN, of.size);

        float bias[PER_THREAD], scales[PER_THREAD];
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const int within = at.thread + i * 128, column = place.first + within;
            bias[i] = row != nullptr && within < BN && column < of.size.outputs ? row[column] : 0.0f;
            if constexpr (C::SCALED) scales[i] = within < BN && column < of.size.outputs ? by.scales[column] : 0.0f;
        }
        // In turn: also because a parity tells a stage's rounds apart only for who has seen the round before (or knows
        // someone who has).
        if (PINGPONG && number > 0) named_barrier_sync(TURN_BARRIER + index, 256);
        int of_tap = 0;
        for (int i = 0; i < of.steps; i++) {
            ring.wait_full(first + i);
            const uint32_t tile = ring.stage(first + i);
            const uint32_t left = tile + lower * PIECE, right = tile + C::A_BYTES;
            if (C::SCALED && ++of_tap == half_after) {
                multiply<In, BN, ROW / 64>(acc, left, right, i == 0);
                of_tap = 0;
            } else {
                multiply<In, BN, ROW / 32>(acc, left, right, i == 0);
            }
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
            if constexpr (C::SCALED) {
                if (at.thread + i * 128 < BN)
                    store_shared(at.scales + (at.thread + i * 128) * 4, __float_as_uint(scales[i]));
            }
        }
#pragma unroll
        for (int i = 0; i < SUBTILES; i++) {
            // The bias is there, and everyone has read the staging.
            at.barrier();
            const auto value = [&](int j, int e) -> float & { return acc[i][j * 4 + e]; };
            const auto column = [&](uint32_t of) {
                return [=](int j) { return load_shared_f32x2(of + (j * 8 + (at.thread & 3) * 2) * 4); };
            };
            if constexpr (C::SCALED) {
                finish_scaled<BN / 8>(end.activation, value, column(at.scales), column(at.bias));
            } else {
                finish<BN / 8>(end.activation, value, column(at.bias));
            }
            const Run run(subtile + lower + i, of.size, place.phase);
            if (end.activation == GEGLU) {
                put<C::SCALED, BN, BN / 16>(at, of.size, end, by, acc[i], run, place.first);
            } else {
                put<C::SCALED, BN, BN / 8>(at, of.size, end, by, acc[i], run, place.first);
            }
        }
    }
}

/// `by` is for 8-bit operands.
template <typename In, typename T, int BN, bool PINGPONG>
DEVICE void convolution(const TensorMap *x0, const TensorMap *x1, const TensorMap *x2, const TensorMap *w,
                        const Problem &of, const Epilogue<T> &end, const Quantized &by) {
    using C = Config<In, BN, PINGPONG>;
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
        if (warp_id() == 0 && elect_one()) produce<In, BN, PINGPONG>(x0, x1, x2, w, of, ring);
    } else {
        increase_registers<224>();
        consume<In, T, BN, PINGPONG>(of, end, by, shared, ring);
    }
    // No block leaves while the other may still load into it or arrive at its barriers.
    __syncwarp();
    cluster_sync();
}

} // namespace
