// What the portable and the Hopper convolution share: runs of pixels, the end of the epilogue in shared memory.
#pragma once
#include "e4m3.cuh"
#include "gelu.cuh"

/// Pixels of a subtile: the run over which moments are kept.
constexpr int RUN = 64;

enum Activation { NONE, SILU, GELU, QUICK_GELU, GEGLU };

/// What happens to the sums. With a step, the bias is that row of a table.
template <typename T> struct Epilogue {
    T *y;
    const float *bias;
    const uint32_t *step;
    const T *residual;
    float *moments;
    int bias_stride, residual_rows, activation;

    DEVICE const float *bias_row() const {
        return bias == nullptr || step == nullptr ? bias : bias + static_cast<size_t>(*step) * bias_stride;
    }
};

/// What products of 8-bit operands take besides: factors of the sums, one per output, and where y goes instead if in
/// e4m3.
struct Quantized {
    const float *scales;
    e4m3 *y;
    /// y's factor, after rounding to T.
    float inverse;
};

/// Sizes of the output. `outputs` are the columns of the product, of which GEGLU leaves half.
///
/// A convolution after a twofold nearest enlargement is four of 2×2 taps, one per phase (parity of row and column of
/// the output), with sums of the taps that meet the same source pixel: 4 of 9 products. Then images have `pixels`
/// source pixels in rows of `phase_width`, each phase its own tiles and rows of w, and y four times the pixels.
struct Size {
    int images, pixels, outputs, phase_width;

    DEVICE int runs() const { return ceil_div(pixels, RUN); }
    DEVICE int phases() const { return phase_width == 0 ? 1 : 4; }
    /// Columns of tiles of `tile` outputs.
    DEVICE int columns(int tile) const { return ceil_div(outputs, tile) * phases(); }
    /// Row of the output tensor of pixel `pixel` of an image.
    DEVICE size_t row(int image, int pixel, int phase) const {
        if (phase_width == 0) return static_cast<size_t>(image) * pixels + pixel;
        const int y = pixel / phase_width * 2 + (phase >> 1), x = pixel % phase_width * 2 + (phase & 1);
        return static_cast<size_t>(image) * pixels * 4 + y * phase_width * 2 + x;
    }
};

/// A column of tiles: its phase, its first output, and the first row of w.
struct Column {
    int phase, first, row;

    DEVICE Column(int number, int tile, const Size &of) {
        const int columns = ceil_div(of.outputs, tile);
        phase = number / columns, first = number % columns * tile, row = phase * of.outputs + first;
    }
};

/// The part of an image that a subtile covers; none past the last image.
struct Run {
    int image, number, first, count, phase;

    DEVICE Run(int subtile, const Size &of, int phase) : phase(phase) {
        const int runs = of.runs();
        image = subtile / runs, number = subtile % runs, first = number * RUN;
        count = image < of.images ? min(of.pixels - first, RUN) : 0;
    }
};

DEVICE float activate(float x, int activation) {
    switch (activation) {
    case SILU: return x * rcp_approx(1.0f + exp2_approx(-LOG2_E * x));
    case QUICK_GELU: return x * rcp_approx(1.0f + exp2_approx(-1.702f * LOG2_E * x));
    case GELU: return gelu(x);
    default: return x;
    }
}

/// Activation of a thread's FRAGMENTS fragments of 8 columns. `at(j, e)` is value e of fragment j (columns 2t, 2t + 1
/// of row g, then of row g + 8). After GEGLU the first half of the fragments holds the result.
template <int FRAGMENTS, typename At> DEVICE void activate_all(int activation, At &&at) {
    if (activation == GEGLU) {
#pragma unroll
        for (int j = 0; j < FRAGMENTS / 2; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) at(j, e) = at(2 * j, e) * gelu(at(2 * j + 1, e));
        }
    } else if (activation != NONE) {
#pragma unroll
        for (int j = 0; j < FRAGMENTS; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) at(j, e) = activate(at(j, e), activation);
        }
    }
}

/// Bias, the two columns' of fragment j by `bias(j)`, and activation.
template <int FRAGMENTS, typename At, typename Bias> DEVICE void finish(int activation, At &&at, Bias &&bias) {
#pragma unroll
    for (int j = 0; j < FRAGMENTS; j++) {
        const float2 b = bias(j);
        at(j, 0) += b.x, at(j, 1) += b.y, at(j, 2) += b.x, at(j, 3) += b.y;
    }
    activate_all<FRAGMENTS>(activation, at);
}

/// The same after the columns' factors; one rounding for factor and bias, on purpose: every tile must give the same
/// bits.
template <int FRAGMENTS, typename At, typename Scale, typename Bias>
DEVICE void finish_scaled(int activation, At &&at, Scale &&scale, Bias &&bias) {
#pragma unroll
    for (int j = 0; j < FRAGMENTS; j++) {
        const float2 s = scale(j), b = bias(j);
        at(j, 0) = fmaf(at(j, 0), s.x, b.x), at(j, 1) = fmaf(at(j, 1), s.y, b.y);
        at(j, 2) = fmaf(at(j, 2), s.x, b.x), at(j, 3) = fmaf(at(j, 3), s.y, b.y);
    }
    activate_all<FRAGMENTS>(activation, at);
}

/// Rounds a fragment's pair into its place in the staging; the residual lies there before.
template <typename T> DEVICE void stage_pair(uint32_t place, float left, float right, bool residual) {
    if (residual) {
        const float2 old = unpack<T>(load_shared(place));
        left += old.x, right += old.y;
    }
    store_shared(place, pack<T>(left, right));
}

/// A run's rows of COLUMNS values in shared memory, on their way between fragments and memory; 16 bytes apart in the
/// banks, so that neither side conflicts. `width`: of a row in memory, of which columns `first`… lie here.
template <typename T, int COLUMNS> struct Staging {
    static constexpr int PITCH = COLUMNS * 2 + 16;

    /// Calls `each(address here, offset in the tensor, values inside it)` for a thread's pieces of 16 bytes.
    template <int CHUNKS, typename Each>
    static DEVICE void for_each(uint32_t rows, const Run &run, int image, const Size &of, int first, int width,
                                int thread, int threads, Each &&each) {
#pragma unroll 4
        for (int i = thread; i < RUN * CHUNKS; i += threads) {
            const int row = i / CHUNKS, column = first + i % CHUNKS * 8;
            const size_t line = of.row(image, run.first + row, run.phase);
            each(rows + row * PITCH + i % CHUNKS * 16, line * width + column, row < run.count ? width - column : 0);
        }
    }

    /// The residual's rows; zero outside.
    template <int CHUNKS>
    static DEVICE void load(uint32_t rows, const Run &run, const Epilogue<T> &end, const Size &of, int first, int width,
                            int thread, int threads) {
        const bool aligned = width % 8 == 0;
        for_each<CHUNKS>(rows, run, run.image % end.residual_rows, of, first, width, thread, threads,
                         [&](uint32_t here, size_t offset, int count) {
                             uint32_t words[4] = {};
                             if (aligned && count >= 8) {
                                 const uint4 piece = *reinterpret_cast<const uint4 *>(end.residual + offset);
                                 words[0] = piece.x, words[1] = piece.y, words[2] = piece.z, words[3] = piece.w;
                             } else {
#pragma unroll
                                 for (int e = 0; e < 8; e++) {
                                     if (e >= count) break;
                                     const uint32_t bits =
                                         *reinterpret_cast<const uint16_t *>(end.residual + offset + e);
                                     words[e / 2] |= bits << (e % 2 * 16);
                                 }
                             }
                             store_shared(here, make_uint4(words[0], words[1], words[2], words[3]));
                         });
    }

    /// The first `count` of a piece's values, in one access if `aligned` and all 8.
    static DEVICE void store_piece(T *y, size_t offset, const uint4 &piece, bool aligned, int count) {
        if (aligned && count >= 8) {
            *reinterpret_cast<uint4 *>(y + offset) = piece;
            return;
        }
        const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int e = 0; e < 8; e++) {
            if (e < count)
                *reinterpret_cast<uint16_t *>(y + offset + e) = static_cast<uint16_t>(words[e / 2] >> (e % 2 * 16));
        }
    }

    /// The same times `inverse` into e4m3.
    static DEVICE void store_piece(e4m3 *y, size_t offset, const uint4 &piece, float inverse, bool aligned, int count) {
        float x[8];
        unpack<T>(piece, x);
#pragma unroll
        for (int e = 0; e < 8; e++) x[e] *= inverse;
        if (aligned && count >= 8) {
            ::store(y + offset, x);
            return;
        }
#pragma unroll
        for (int e = 0; e < 8; e++) {
            if (e < count) y[offset + e] = from_f32<e4m3>(x[e]);
        }
    }

    /// The rows into y.
    template <int CHUNKS>
    static DEVICE void store(uint32_t rows, const Run &run, const Epilogue<T> &end, const Size &of, int first,
                             int width, int thread, int threads) {
        const bool aligned = width % 8 == 0;
        for_each<CHUNKS>(rows, run, run.image, of, first, width, thread, threads,
                         [&](uint32_t here, size_t offset, int count) {
                             store_piece(end.y, offset, load_shared_x4(here), aligned, count);
                         });
    }

    /// The rows into y, or times its factor into y of e4m3. (One loop: two cost the Hopper kernels more registers than
    /// there are.)
    template <int CHUNKS>
    static DEVICE void store(uint32_t rows, const Run &run, const Epilogue<T> &end, const Quantized &by, const Size &of,
                             int first, int width, int thread, int threads) {
        const bool aligned = width % 8 == 0;
        for_each<CHUNKS>(rows, run, run.image, of, first, width, thread, threads,
                         [&](uint32_t here, size_t offset, int count) {
                             const uint4 piece = load_shared_x4(here);
                             if (by.y == nullptr) {
                                 store_piece(end.y, offset, piece, aligned, count);
                             } else {
                                 store_piece(by.y, offset, piece, by.inverse, aligned, count);
                             }
                         });
    }

    /// Sums of the run's columns and of their squares, rows ascending: two columns per thread.
    template <int CHUNKS>
    static DEVICE void moments(uint32_t rows, const Run &run, const Epilogue<T> &end, int runs, int first, int width,
                               int thread, int threads) {
        for (int pair = thread; pair < CHUNKS * 4; pair += threads) {
            const int column = first + pair * 2;
            if (run.count == 0 || column >= width) continue;
            float2 sum = make_float2(0.0f, 0.0f), squares = sum;
#pragma unroll 8
            for (int row = 0; row < run.count; row++) {
                const float2 x = unpack<T>(load_shared(rows + row * PITCH + pair * 4));
                sum.x += x.x, sum.y += x.y;
                squares.x = fmaf(x.x, x.x, squares.x), squares.y = fmaf(x.y, x.y, squares.y);
            }
            float *to = end.moments + ((static_cast<size_t>(run.image) * runs + run.number) * width + column) * 2;
            ::store<2>(to, {sum.x, squares.x});
            if (column + 1 < width) ::store<2>(to + 2, {sum.y, squares.y});
        }
    }
};
