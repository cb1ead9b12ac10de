// Convolutions 3×3 (padding 1, stride 1 or 2, nearest enlargement folded in) and 1×1, and linear layers, of the generator, on any sm_80+
// card: implicit GEMM over NHWC f16 or bf16, f32 accumulators.
//
//   y[p, o] = epilogue(Σ_k a[p, k]·w[o, k] + bias[o])        p: output pixels of all images, k: the segments one after the other
//
// A segment is one source tensor: 9 taps (row-major) × its channels, or its channels alone (1×1). So a residual block's shortcut over two
// tensors is more k of its second convolution. Source images repeat (row n reads image n % rows). w is [outputs, K], packed by the host.
// A twofold enlargement may come as four phases of 2×2 taps (conv.cuh): 2.25 times fewer FLOPs.
//
// Rows of tiles are subtiles of 64 consecutive pixels of one image (the last of an image may be short): the runs over which moments are kept
// for the next group norm. A tile holds one or two consecutive subtiles, also of different images.
//
// Epilogue: bias or a row of a table (chosen by a counter in device memory), activation, residual, rounding to T, per-run per-channel sums of
// the rounded values and of their squares. GEGLU: columns of w come in blocks of 8 values and 8 gates in turn, so that a thread holds both.
//
// Channels are multiples of 8 (pieces of 16 bytes) or of 4 (8 bytes: latents, k = 36). FLOPs 2·pixels·outputs·K, bytes: source 9 times from L2 or
// L1, once from memory. Bound by the tensor cores from K ≈ 200 on. Exponentials: one per value of an activation.
//
// Order of additions: k ascending in steps of 16 from 0 for every output, whatever the tile; moments: rows ascending. So an image's bits
// depend neither on the batch nor on the tile.
//
// Version 1: tiles 128×128, 128×64 and 64×64 (4 warps of 64×64, 64×32, 32×32), and 128×16 for few outputs (4 warps of 32×16); steps of 32 in
// k, 3 stages of cp.async, swizzled shared memory without bank conflicts. Static figures (sm_80, nvcc 13.0): 226, 154, 100, 80 registers,
// no spills; 48, 36, 24, 27 KB of shared memory; 2, 3, 4, 5 blocks per SM.
#include "common/conv.cuh"
#include "common/raster.cuh"
#include "common/reduce.cuh"
#include "common/tile.cuh"

namespace {

constexpr int BK = 32;
constexpr int STAGES = 3;
constexpr int THREADS = 128;
constexpr int GROUP = 8;

/// Sources and weights. Unused segments have no taps; source image of image n is n % rows.
template <typename T> struct Problem {
    const T *x0, *x1, *x2, *w;
    int channels0, channels1, channels2, taps0, taps1, taps2, rows0, rows1, rows2;
    int height, width, canvas_height, canvas_width, out_width, stride, k;
    Size size;
};

/// The pieces of a's steps that one thread copies: PIECE values at its column of ROWS rows, LINES rows apart.
template <typename T, int BM, int PIECE> struct Gather {
    static constexpr int COLUMNS = BK / PIECE, LINES = THREADS / COLUMNS, ROWS = BM / LINES;
    static_assert(RUN % LINES == 0, "a thread's rows of a subtile follow its first");

    const Problem<T> &of;
    const T *at[ROWS];
    const T *values;
    /// Bit i: row i lies inside source and tile.
    uint32_t inside = 0;
    int segment = 0, tap = 0, channel, channels, taps, rows;

    DEVICE Gather(const Problem<T> &of, int subtile, int phase) : of(of), first_subtile(subtile), phase(phase) {
        channel = threadIdx.x % COLUMNS * PIECE;
        source(of.x0, of.channels0, of.taps0, of.rows0);
        settle();
    }

    /// Starts copying a step and moves on to the next.
    DEVICE void fetch(uint32_t tile) {
        const int column = threadIdx.x % COLUMNS, line = threadIdx.x / COLUMNS;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const bool valid = inside >> i & 1;
            const uint32_t to = tile + Tile<BK>::offset(line + i * LINES, column * PIECE / 8) + column * PIECE % 8 * 2;
            cp_async<PIECE * 2>(to, valid ? at[i] : of.x0, valid ? PIECE * 2 : 0);
            at[i] += BK;
        }
        channel += BK;
        if (channel >= channels) settle();
    }

  private:
    int first_subtile, phase;

    DEVICE void source(const T *x, int c, int t, int r) { values = x, channels = c, taps = t, rows = r, tap = 0; }

    /// Moves surplus channels to the taps and segments that follow, then finds the rows there.
    DEVICE void settle() {
        while (channel >= channels) {
            channel -= channels;
            if (++tap < taps) continue;
            segment++;
            if (segment == 1 && of.taps1 > 0) {
                source(of.x1, of.channels1, of.taps1, of.rows1);
            } else if (segment == 2 && of.taps2 > 0) {
                source(of.x2, of.channels2, of.taps2, of.rows2);
            } else {
                inside = 0, channels = INT32_MAX;
                return;
            }
        }
        const int side = taps == 9 ? 3 : 2, down = tap / side - 1 + (phase >> 1), right = tap % side - 1 + (phase & 1);
        inside = 0;
#pragma unroll
        for (int s = 0; s < BM / RUN; s++) {
            const Run run(first_subtile + s, of.size, phase);
            const size_t image = run.image % rows;
#pragma unroll
            for (int i = 0; i < RUN / LINES; i++) {
                const int row = threadIdx.x / COLUMNS + i * LINES, pixel = run.first + row;
                bool valid = row < run.count;
                size_t from = image * of.size.pixels + pixel;
                if (taps > 1) {
                    int y = pixel / of.out_width * of.stride + down, x = pixel % of.out_width * of.stride + right;
                    valid &= y >= 0 && y < of.canvas_height && x >= 0 && x < of.canvas_width;
                    if (of.canvas_height != of.height) y = y * of.height / of.canvas_height;
                    if (of.canvas_width != of.width) x = x * of.width / of.canvas_width;
                    from = (image * of.height + y) * of.width + x;
                }
                const int number = s * (RUN / LINES) + i;
                at[number] = values + from * channels + channel;
                inside |= static_cast<uint32_t>(valid) << number;
            }
        }
    }
};

/// The same of w's rows from `n0`.
template <typename T, int BN, int PIECE> struct Rows {
    static constexpr int COLUMNS = BK / PIECE, LINES = THREADS / COLUMNS, ROWS = ceil_div(BN, LINES);

    const T *at, *first;
    int n0, outputs, k, left;

    DEVICE Rows(const Problem<T> &of, int row) : first(of.w), n0(row), outputs(of.size.outputs * of.size.phases()), k(of.k) {
        const int column = threadIdx.x % COLUMNS * PIECE;
        left = of.k - column;
        at = of.w + static_cast<size_t>(n0 + threadIdx.x / COLUMNS) * of.k + column;
    }

    DEVICE void fetch(uint32_t tile) {
        const int column = threadIdx.x % COLUMNS, line = threadIdx.x / COLUMNS;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int row = line + i * LINES;
            if (BN % LINES != 0 && row >= BN) break;
            const bool valid = left > 0 && n0 + row < outputs;
            const uint32_t to = tile + Tile<BK>::offset(row, column * PIECE / 8) + column * PIECE % 8 * 2;
            cp_async<PIECE * 2>(to, valid ? at + static_cast<size_t>(i * LINES) * k : first, valid ? PIECE * 2 : 0);
        }
        at += BK, left -= BK;
    }
};

/// One block: BM pixels × BN outputs by WM × WN warps. With `f32` there is no y of T, no residual, no moments, no gate.
template <typename T, int BM, int BN, int WM, int WN, int PIECE>
DEVICE void convolution(float *f32, const Problem<T> &of, const Epilogue<T> &end) {
    static_assert(WM * WN * 32 == THREADS, "warps of the block");
    constexpr int WARP_M = BM / WM, WARP_N = BN / WN, MI = WARP_M / 16, NI = WARP_N / 8;
    constexpr int TILE_A = BM * BK * 2, STAGE = (BM + BN) * BK * 2;
    using In = Tile<BK>;
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t stages = shared_address(shared);
    const int outputs = of.size.outputs, runs = of.size.runs();
    const int2 at = raster<GROUP>(blockIdx.x, ceil_div(of.size.images * runs, BM / RUN), of.size.columns(BN));
    const Column column(at.y, BN, of.size);
    const int subtile = at.x * (BM / RUN), n0 = column.first, phase = column.phase;
    const int warp_m = warp_id() / WN * WARP_M, warp_n = warp_id() % WN * WARP_N, lane = lane_id();
    const int steps = ceil_div(of.k, BK);

    Gather<T, BM, PIECE> a(of, subtile, phase);
    Rows<T, BN, PIECE> b(of, column.row);
    const auto fetch = [&](int step) {
        if (step < steps) {
            const uint32_t stage = stages + step % STAGES * STAGE;
            a.fetch(stage);
            b.fetch(stage + TILE_A);
        }
        cp_async_commit();
    };

    float acc[MI][NI][4] = {};
#pragma unroll 1
    for (int s = 0; s < STAGES - 1; s++) fetch(s);
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        fetch(step + STAGES - 1);
        const uint32_t tile_a = stages + step % STAGES * STAGE, tile_b = tile_a + TILE_A;
#pragma unroll
        for (int kk = 0; kk < BK / 16; kk++) {
            uint32_t fa[MI][4], fb[NI / 2][4];
#pragma unroll
            for (int i = 0; i < MI; i++) In::load_a(fa[i], tile_a, warp_m + i * 16, kk, lane);
#pragma unroll
            for (int j = 0; j < NI / 2; j++) In::load_b_transposed(fb[j], tile_b, warp_n + j * 16, kk, lane);
#pragma unroll
            for (int i = 0; i < MI; i++) {
#pragma unroll
                for (int j = 0; j < NI; j++) mma<T>(acc[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
            }
        }
    }

    const int g = lane >> 2, t = lane & 3;
    float2 bias[NI] = {};
    if (const float *row = end.bias_row()) {
#pragma unroll
        for (int j = 0; j < NI; j++) {
            const int column = n0 + warp_n + j * 8 + t * 2;
            bias[j].x = column < outputs ? row[column] : 0.0f, bias[j].y = column + 1 < outputs ? row[column + 1] : 0.0f;
        }
    }
#pragma unroll
    for (int i = 0; i < MI; i++) {
        finish<NI>(end.activation, [&](int j, int e) -> float & { return acc[i][j][e]; }, [&](int j) { return bias[j]; });
    }

    if (f32 != nullptr) {
#pragma unroll
        for (int i = 0; i < MI; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = warp_m + i * 16 + half * 8 + g;
                const Run run(subtile + row / RUN, of.size, phase);
                if (row % RUN >= run.count) continue;
                float *line = f32 + of.size.row(run.image, run.first + row % RUN, phase) * outputs;
#pragma unroll
                for (int j = 0; j < NI; j++) {
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const int column = n0 + warp_n + j * 8 + t * 2 + e;
                        if (column < outputs) line[column] = acc[i][j][half * 2 + e];
                    }
                }
            }
        }
        return;
    }
    using Out = Staging<T, BN>;
    constexpr int CHUNKS = BN / 8;
    static_assert(BM * Out::PITCH <= STAGES * STAGE, "the output is staged where the operands were");
    // All warps are done with the last stage, and every copy has landed.
    cp_async_wait<0>();
    __syncthreads();
    const bool gated = end.activation == GEGLU;
    const int halve = gated ? 1 : 0, width = outputs >> halve, column0 = n0 >> halve;
    const auto for_each_run = [&](auto &&each) {
#pragma unroll 1
        for (int s = 0; s < BM / RUN; s++) each(stages + s * RUN * Out::PITCH, Run(subtile + s, of.size, phase));
    };
    if (end.residual != nullptr) {
        for_each_run([&](uint32_t rows, const Run &run) {
            if (gated) {
                Out::template load<CHUNKS / 2>(rows, run, end, of.size, column0, width, threadIdx.x, THREADS);
            } else {
                Out::template load<CHUNKS>(rows, run, end, of.size, column0, width, threadIdx.x, THREADS);
            }
        });
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < MI; i++) {
#pragma unroll
        for (int j = 0; j < NI; j++) {
            if (gated && j >= NI / 2) continue;
            const uint32_t place = stages + (warp_m + i * 16 + g) * Out::PITCH + (warp_n >> halve) * 2 + j * 16 + t * 4;
            stage_pair<T>(place, acc[i][j][0], acc[i][j][1], end.residual != nullptr);
            stage_pair<T>(place + 8 * Out::PITCH, acc[i][j][2], acc[i][j][3], end.residual != nullptr);
        }
    }
    __syncthreads();
    for_each_run([&](uint32_t rows, const Run &run) {
        if (gated) {
            Out::template store<CHUNKS / 2>(rows, run, end, of.size, column0, width, threadIdx.x, THREADS);
        } else {
            Out::template store<CHUNKS>(rows, run, end, of.size, column0, width, threadIdx.x, THREADS);
        }
        if (end.moments != nullptr) {
            if (gated) {
                Out::template moments<CHUNKS / 2>(rows, run, end, runs, column0, width, threadIdx.x, THREADS);
            } else {
                Out::template moments<CHUNKS>(rows, run, end, runs, column0, width, threadIdx.x, THREADS);
            }
        }
    });
}

} // namespace

// One of y and f32 is given. `step` (may be null) points to the row of the bias table. Segments have 1, 9 or (phases) 4 taps, unused ones none.
#define CONV(NAME, T, BM, BN, WM, WN, PIECE, BLOCKS)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                                      \
        NAME(T *y, float *f32, const T *w, const T *x0, const T *x1, const T *x2, const float *bias, const uint32_t *step,             \
             const T *residual, float *moments, int channels0, int channels1, int channels2, int taps0, int taps1, int taps2,          \
             int rows0, int rows1, int rows2, int images, int pixels, int outputs, int phase_width, int height, int width,             \
             int canvas_height, int canvas_width, int out_width, int stride, int k, int bias_stride, int residual_rows,                \
             int activation) {                                                                                                         \
        const Size size{images, pixels, outputs, phase_width};                                                                         \
        const Problem<T> of{x0,    x1,    x2,    w,      channels0, channels1,     channels2,    taps0,     taps1,  taps2,             \
                            rows0, rows1, rows2, height, width,     canvas_height, canvas_width, out_width, stride, k, size};          \
        const Epilogue<T> end{y, bias, step, residual, moments, bias_stride, residual_rows, activation};                               \
        convolution<T, BM, BN, WM, WN, PIECE>(f32, of, end);                                                                           \
    }
#define CONV_OF(T)                                                                                                                     \
    CONV(conv_128x128_##T, T, 128, 128, 2, 2, 8, 2)                                                                                    \
    CONV(conv_128x64_##T, T, 128, 64, 2, 2, 8, 3)                                                                                      \
    CONV(conv_64x64_##T, T, 64, 64, 2, 2, 8, 4)                                                                                        \
    CONV(conv_128x16_##T, T, 128, 16, 4, 1, 8, 5)                                                                                      \
    CONV(conv_128x64_by4_##T, T, 128, 64, 2, 2, 4, 3)                                                                                  \
    CONV(conv_128x16_by4_##T, T, 128, 16, 4, 1, 4, 5)
CONV_OF(f16)
CONV_OF(bf16)
