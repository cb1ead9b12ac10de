// Antialiased resizing of [height, width, 3] u8 with Pillow's bits: weights of 22 fractional bits, 8 bits between the
// two passes. Rows by one warp each with weights from anywhere; whole pictures by one block with bilinear or bicubic
// weights computed here, in double precision.
#pragma once
#include "reduce.cuh"
#include "types.cuh"

constexpr int FRACTION = 22;

/// The weights of one axis: for every output its first input and number of inputs, and `weights [taps, output]`.
struct Axis {
    int input, output;
    int *table;
    /// Keys' cubic with a = -0.5, not the triangle.
    bool cubic = false;

    DEVICE int radius() const { return cubic ? 2 : 1; }
    /// The most inputs of one output.
    DEVICE int taps() const { return (2 * radius() * max(input, output) + output - 1) / output + 1; }
    DEVICE int *first() const { return table; }
    DEVICE int *count() const { return table + output; }
    DEVICE int *weights() const { return table + 2 * output; }
    DEVICE int *end() const { return table + (2 + taps()) * output; }

    /// In double precision, operation by operation as on the CPU.
    DEVICE void fill() const {
        const double scale = __ddiv_rn(input, output), stretch = fmax(scale, 1.0), shrink = __ddiv_rn(1.0, stretch);
        const double reach = __dmul_rn(radius(), stretch);
        for (int i = threadIdx.x; i < output; i += blockDim.x) {
            const double center = __dmul_rn(__dadd_rn(i, 0.5), scale);
            const int low = __double2int_rz(fmax(__dadd_rn(__dsub_rn(center, reach), 0.5), 0.0));
            const int high = min(__double2int_rz(__dadd_rn(__dadd_rn(center, reach), 0.5)), input);
            auto weight = [&](int x) {
                const double distance = __dmul_rn(__dadd_rn(__dsub_rn(x, center), 0.5), shrink);
                const double a = fabs(distance);
                // One polynomial for all three, operation by operation what the CPU computes: what is 0 adds nothing.
                const bool near = a < 1.0;
                const double c3 = !cubic ? 0.0 : near ? 1.5 : -0.5, c2 = !cubic ? 0.0 : near ? -2.5 : 2.5;
                const double c1 = !cubic ? -1.0 : near ? 0.0 : -4.0, c0 = cubic && !near ? 2.0 : 1.0;
                const double high = __dmul_rn(__dadd_rn(__dmul_rn(c3, a), c2), a);
                return a < radius() ? __dadd_rn(__dmul_rn(__dadd_rn(high, c1), a), c0) : 0.0;
            };
            double sum = 0.0;
#pragma unroll 1
            for (int x = low; x < high; x++) sum = __dadd_rn(sum, weight(x));
            first()[i] = low;
            count()[i] = high - low;
#pragma unroll 1
            for (int x = low; x < high; x++) {
                const double w = sum == 0.0 ? weight(x) : __ddiv_rn(weight(x), sum);
                const double exact = __dmul_rn(w, 1 << FRACTION);
                const int whole = __double2int_rz(exact);
                weights()[(x - low) * output + i] = whole + __double2int_rz(__dmul_rn(__dsub_rn(exact, whole), 2.0));
            }
        }
    }
};

DEVICE uint32_t rounded(int sum) { return min(max(sum >> FRACTION, 0), 255); }

/// Where a picture begins, and the bytes from row to row.
struct Rows {
    unsigned char *data;
    int pitch;
};

/// Bytes from row to row of pictures between two resizes: whole words.
DEVICE int word_pitch(int width) { return round_up(3 * width, 4); }

/// Row `y` at another width; one warp.
DEVICE void resize_row_along(Rows to, const unsigned char *from, int from_pitch, const Axis &axis, int y) {
    const int *first = axis.first(), *count = axis.count(), *weights = axis.weights();
    const unsigned char *row = from + static_cast<size_t>(y) * from_pitch;
    unsigned char *out = to.data + static_cast<size_t>(y) * to.pitch;
    for (int x = lane_id(); x < axis.output; x += 32) {
        const unsigned char *source = row + 3 * first[x];
        const int taps = count[x];
        int red = 1 << (FRACTION - 1), green = red, blue = red;
#pragma unroll 2
        for (int tap = 0; tap < taps; tap++) {
            const int w = weights[tap * axis.output + x];
            red += source[3 * tap] * w;
            green += source[3 * tap + 1] * w;
            blue += source[3 * tap + 2] * w;
        }
        out[3 * x] = rounded(red);
        out[3 * x + 1] = rounded(green);
        out[3 * x + 2] = rounded(blue);
    }
}

/// Row `y` of a picture of another height; one warp, a lane per four bytes of the row's `length`. Rows of `from` are
/// whole words where FROM_WORDS says so, those of `to` where TO_WORDS does (they are then written up to the last word's
/// end).
template <bool FROM_WORDS, bool TO_WORDS>
DEVICE void resize_row_across(Rows to, const unsigned char *from, int from_pitch, int length, const Axis &axis, int y) {
    const int *weights = axis.weights();
    const unsigned char *rows = from + static_cast<size_t>(axis.first()[y]) * from_pitch;
    const int taps = axis.count()[y];
    for (int x = 4 * lane_id(); x < length; x += 128) {
        int sum[4];
#pragma unroll
        for (int i = 0; i < 4; i++) sum[i] = 1 << (FRACTION - 1);
#pragma unroll 2
        for (int tap = 0; tap < taps; tap++) {
            const int w = weights[tap * axis.output + y];
            const unsigned char *source = rows + static_cast<size_t>(tap) * from_pitch + x;
            if constexpr (FROM_WORDS) {
                const uint32_t word = *reinterpret_cast<const uint32_t *>(source);
#pragma unroll
                for (int i = 0; i < 4; i++) sum[i] += static_cast<int>(word >> 8 * i & 255) * w;
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) sum[i] += (x + i < length ? source[i] : 0) * w;
            }
        }
        unsigned char *out = to.data + static_cast<size_t>(y) * to.pitch;
        if constexpr (TO_WORDS) {
            uint32_t word = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) word |= rounded(sum[i]) << 8 * i;
            *reinterpret_cast<uint32_t *>(out + x) = word;
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (x + i < length) out[x + i] = rounded(sum[i]);
            }
        }
    }
}

/// Changes the width; a warp per row.
DEVICE void resize_along(Rows to, const unsigned char *from, int from_pitch, int height, const Axis &axis) {
    for (int y = warp_id(); y < height; y += blockDim.x / 32) {
        resize_row_along(to, from, from_pitch, axis, y);
        // Up to the word that the other pass may read.
        unsigned char *out = to.data + static_cast<size_t>(y) * to.pitch;
        for (int x = 3 * axis.output + lane_id(); x < word_pitch(axis.output); x += 32) out[x] = 0;
    }
}

/// Changes the height; a warp per row. The rows of `to` are whole words, those of `from` where WORDS says so.
template <bool WORDS>
DEVICE void resize_across(Rows to, const unsigned char *from, int from_pitch, int width, const Axis &axis) {
    for (int y = warp_id(); y < axis.output; y += blockDim.x / 32) {
        resize_row_across<WORDS, true>(to, from, from_pitch, 3 * width, axis, y);
    }
}

/// The two passes, in Pillow's order and each only where it changes something.
DEVICE void resize(Rows to, const unsigned char *from, int from_pitch, int width, int height, int to_width,
                   int to_height, bool cubic, int *tables, unsigned char *between) {
    const Axis along = {width, to_width, tables, cubic}, across = {height, to_height, along.end(), cubic};
    along.fill();
    across.fill();
    __syncthreads();
    const int shed = height - to_height;
    if (width == to_width && height == to_height) {
        for (int y = warp_id(); y < height; y += blockDim.x / 32) {
#pragma unroll 1  // unrolled, the largest kernel spills
            for (int x = lane_id(); x < 3 * width; x += 32) {
                to.data[static_cast<size_t>(y) * to.pitch + x] = from[static_cast<size_t>(y) * from_pitch + x];
            }
        }
    } else if (width == to_width) {
        resize_across<false>(to, from, from_pitch, width, across);
    } else if (height == to_height) {
        resize_along(to, from, from_pitch, height, along);
    } else if (shed > 0 && shed > 2 * (width - to_width)) {
        const Rows middle = {between, word_pitch(width)};
        resize_across<false>(middle, from, from_pitch, width, across);
        __syncthreads();
        resize_along(to, middle.data, middle.pitch, to_height, along);
    } else {
        const Rows middle = {between, word_pitch(to_width)};
        resize_along(middle, from, from_pitch, height, along);
        __syncthreads();
        resize_across<true>(to, middle.data, middle.pitch, to_width, across);
    }
    __syncthreads();
}
