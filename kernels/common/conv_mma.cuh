// Convolutions and linear layers by cp.async and mma.sync: what conv.cu (16-bit operands) and conv_sm89.cu (8-bit) make
// their kernels of.
#pragma once
#include "conv.cuh"
#include "raster.cuh"
#include "reduce.cuh"
#include "tile.cuh"

namespace {

/// Bytes of a stage's row: 32 channels of 16 bits, 64 of 8.
constexpr int ROW = 64;
constexpr int STAGES = 3;
constexpr int THREADS = 128;
constexpr int GROUP = 8;

/// Sources and weights. Unused segments have no taps; source image of image n is n % rows.
template <typename In> struct Problem {
    const In *x0, *x1, *x2, *w;
    int channels0, channels1, channels2, taps0, taps1, taps2, rows0, rows1, rows2;
    int height, width, canvas_height, canvas_width, out_width, stride, k;
    Size size;
};

/// A stage's rows in shared memory: placed as so many 16-bit values.
using Operand = Tile<ROW / 2>;
/// Bytes from a tile's start to piece number `column`, of PIECE bytes, of a row.
template <int PIECE>
DEVICE int place(int row, int column) {
    return Operand::offset(row, column * PIECE / 16) + column * PIECE % 16;
}

/// The pieces of a's steps that one thread copies: PIECE bytes at its column of ROWS rows, LINES rows apart.
template <typename In, int BM, int PIECE> struct Gather {
    static constexpr int BK = ROW / sizeof(In), COLUMNS = ROW / PIECE, LINES = THREADS / COLUMNS, ROWS = BM / LINES;
    static_assert(RUN % LINES == 0, "a thread's rows of a subtile follow its first");

    const Problem<In> &of;
    const In *at[ROWS];
    const In *values;
    /// Bit i: row i lies inside source and tile.
    uint32_t inside = 0;
    int segment = 0, tap = 0, channel, channels, taps, rows;

    DEVICE Gather(const Problem<In> &of, int subtile, int phase) : of(of), first_subtile(subtile), phase(phase) {
        channel = threadIdx.x % COLUMNS * (PIECE / sizeof(In));
        source(of.x0, of.channels0, of.taps0, of.rows0);
        settle();
    }

    /// Starts copying a step and moves on to the next.
    DEVICE void fetch(uint32_t tile) {
        const int column = threadIdx.x % COLUMNS, line = threadIdx.x / COLUMNS;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const bool valid = inside >> i & 1;
            const uint32_t to = tile + place<PIECE>(line + i * LINES, column);
            cp_async<PIECE>(to, valid ? at[i] : of.x0, valid ? PIECE : 0);
            at[i] += BK;
        }
        channel += BK;
        if (channel >= channels) settle();
    }

  private:
    int first_subtile, phase;

    DEVICE void source(const In *x, int c, int t, int r) { values = x, channels = c, taps = t, rows = r, tap = 0; }

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
template <typename In, int BN, int PIECE> struct Rows {
    static constexpr int BK = ROW / sizeof(In), COLUMNS = ROW / PIECE, LINES = THREADS / COLUMNS,
                         ROWS = ceil_div(BN, LINES);

    const In *at, *first;
    int n0, outputs, k, left;

    DEVICE Rows(const Problem<In> &of, int row)
        : first(of.w), n0(row), outputs(of.size.outputs * of.size.phases()), k(of.k) {
        const int column = threadIdx.x % COLUMNS * (PIECE / sizeof(In));
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
            const uint32_t to = tile + place<PIECE>(row, column);
            cp_async<PIECE>(to, valid ? at + static_cast<size_t>(i * LINES) * k : first, valid ? PIECE : 0);
        }
        at += BK, left -= BK;
    }
};

/// One block: BM pixels × BN outputs by WM × WN warps. With `f32` there is no y of T, no residual, no moments, no gate.
/// `by` is for 8-bit operands.
template <typename In, typename T, int BM, int BN, int WM, int WN, int PIECE>
DEVICE void convolution(float *f32, const Problem<In> &of, const Epilogue<T> &end, const Quantized &by) {
    static_assert(WM * WN * 32 == THREADS, "warps of the block");
    constexpr int WARP_M = BM / WM, WARP_N = BN / WN, MI = WARP_M / 16, NI = WARP_N / 8;
    constexpr int TILE_A = BM * ROW, STAGE = (BM + BN) * ROW;
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t stages = shared_address(shared);
    const int outputs = of.size.outputs, runs = of.size.runs();
    const int2 at = raster<GROUP>(blockIdx.x, ceil_div(of.size.images * runs, BM / RUN), of.size.columns(BN));
    const Column column(at.y, BN, of.size);
    const int subtile = at.x * (BM / RUN), n0 = column.first, phase = column.phase;
    const int warp_m = warp_id() / WN * WARP_M, warp_n = warp_id() % WN * WARP_N, lane = lane_id();
    const int steps = ceil_div(of.k, static_cast<int>(ROW / sizeof(In)));

    Gather<In, BM, PIECE> a(of, subtile, phase);
    Rows<In, BN, PIECE> b(of, column.row);
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
        for (int kk = 0; kk < ROW / 32; kk++) {
            uint32_t fa[MI][4], fb[NI / 2][4];
#pragma unroll
            for (int i = 0; i < MI; i++) Operand::load_a(fa[i], tile_a, warp_m + i * 16, kk, lane);
#pragma unroll
            for (int j = 0; j < NI / 2; j++) Operand::load_b_transposed(fb[j], tile_b, warp_n + j * 16, kk, lane);
#pragma unroll
            for (int i = 0; i < MI; i++) {
#pragma unroll
                for (int j = 0; j < NI; j++) mma<In>(acc[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
            }
        }
    }

    const int g = lane >> 2, t = lane & 3;
    float2 bias[NI] = {};
    if (const float *row = end.bias_row()) {
#pragma unroll
        for (int j = 0; j < NI; j++) {
            const int column = n0 + warp_n + j * 8 + t * 2;
            bias[j].x = column < outputs ? row[column] : 0.0f,
            bias[j].y = column + 1 < outputs ? row[column + 1] : 0.0f;
        }
    }
    if constexpr (sizeof(In) == 1) {
        float2 scale[NI];
#pragma unroll
        for (int j = 0; j < NI; j++) {
            const int column = n0 + warp_n + j * 8 + t * 2;
            scale[j].x = column < outputs ? by.scales[column] : 0.0f,
            scale[j].y = column + 1 < outputs ? by.scales[column + 1] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < MI; i++) {
            finish_scaled<NI>(
                end.activation, [&](int j, int e) -> float & { return acc[i][j][e]; }, [&](int j) { return scale[j]; },
                [&](int j) { return bias[j]; });
        }
    } else {
#pragma unroll
        for (int i = 0; i < MI; i++) {
            finish<NI>(
                end.activation, [&](int j, int e) -> float & { return acc[i][j][e]; }, [&](int j) { return bias[j]; });
        }
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
        if constexpr (sizeof(In) == 1) {
            if (gated) {
                Out::template store<CHUNKS / 2>(rows, run, end, by, of.size, column0, width, threadIdx.x, THREADS);
            } else {
                Out::template store<CHUNKS>(rows, run, end, by, of.size, column0, width, threadIdx.x, THREADS);
            }
        } else if (gated) {
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
