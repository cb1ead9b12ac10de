// Gaussian blur as Pillow approximates it: three boxes of a fractional radius one after the other, each rounded to 8
// bits.
#pragma once
#include "types.cuh"

/// Weights of a box in 24 fractional bits.
struct BoxWeights {
    uint32_t full, edge;
    DEVICE uint32_t value(uint32_t inside, uint32_t ends) const {
        return (inside * full + ends * edge + (1u << 23)) >> 24;
    }
};

/// A box of whole radius R over a stream of values.
template <int R> struct Box {
    /// The values from R + 1 before the output to R + 1 behind it.
    uint32_t window[2 * R + 3];

    /// The first value, which repeats before the border.
    DEVICE void start(uint32_t value) {
#pragma unroll
        for (int i = 0; i < 2 * R + 3; i++) window[i] = value;
    }
    DEVICE void push(uint32_t value) {
#pragma unroll
        for (int i = 0; i < 2 * R + 2; i++) window[i] = window[i + 1];
        window[2 * R + 2] = value;
    }
    DEVICE uint32_t output(BoxWeights weights) const {
        uint32_t inside = 0;
#pragma unroll
        for (int i = 1; i < 2 * R + 2; i++) inside += window[i];
        return weights.value(inside, window[0] + window[2 * R + 2]);
    }
};

/// Three boxes one behind the other over the `count` values of a line, in place: what is written lies 3·(R + 1) behind
/// what is read.
template <int R> DEVICE void blur_line(unsigned char *line, int stride, int count, BoxWeights weights) {
    constexpr int DELAY = R + 1;
    Box<R> boxes[3];
    // What each box was given last, and the last output: beyond the end of a stream its last value comes again and
    // again.
    uint32_t passed[4] = {0, 0, 0, 0};
    unsigned char *out = line;
    const int steps = count + 3 * DELAY;
#pragma unroll 1
    for (int t = 0; t < steps; t++) {
        if (t >= 3 * DELAY) {
            // Away from both borders.
#pragma unroll(2 * R + 3)
            for (; t < count; t++) {
                passed[0] = *line, line += stride;
#pragma unroll
                for (int i = 0; i < 3; i++) {
                    boxes[i].push(passed[i]);
                    passed[i + 1] = boxes[i].output(weights);
                }
                *out = passed[3], out += stride;
            }
        }
        if (t < count) passed[0] = *line, line += stride;
#pragma unroll
        for (int i = 0; i < 3; i++) {
            const int at = t - i * DELAY; // place in this box's stream
            boxes[i].push(passed[i]);
            if (at == 0) boxes[i].start(passed[i]);
            if (at >= DELAY && at < count + DELAY) passed[i + 1] = boxes[i].output(weights);
        }
        if (t >= 3 * DELAY) *out = passed[3], out += stride;
    }
}

/// One box of any radius over a line, by a running sum.
DEVICE void box_line(unsigned char *to, int to_stride, const unsigned char *from, int from_stride, int count,
                     int radius, BoxWeights weights) {
    auto value = [&](int i) -> uint32_t { return from[min(max(i, 0), count - 1) * from_stride]; };
    uint32_t sum = 0;
    for (int i = -radius - 1; i < radius; i++) sum += value(i);
    for (int i = 0; i < count; i++) {
        const uint32_t before = value(i - radius - 1);
        sum += value(i + radius) - before;
        to[i * to_stride] = weights.value(sum, before + value(i + radius + 1));
    }
}
