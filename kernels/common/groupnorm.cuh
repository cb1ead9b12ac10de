// The last step of group norms, for groupnorm.cu (bf16 and f16) and groupnorm_sm89.cu (e4m3 out).
#pragma once
#include "reduce.cuh"
#include "types.cuh"

namespace {

/// Pixels of a run: what one block of `moments` and of `apply` works on.
constexpr uint32_t RUN = 64;
/// Threads, one below the other, that share the pixels of a run; each takes every ROWS-th.
constexpr uint32_t ROWS = 8;
constexpr uint32_t PIXELS = RUN / ROWS;
/// Pixels that a thread of `apply` has in flight: as many as leave room for two full blocks on an SM.
constexpr uint32_t AHEAD = 4;
/// Most vectors of 8 channels of a block, and its threads.
constexpr uint32_t WIDEST = 64;
constexpr uint32_t THREADS = WIDEST * ROWS;

/// The vectors of 8 channels at pixels first, first + ROWS, … of a run that ends at `end`; zeros beyond. `x` points to
/// the vector at pixel 0.
template <uint32_t COUNT, typename T>
DEVICE void load_pixels(const T *x, uint64_t stride, uint32_t first, uint32_t end, uint4 (&words)[COUNT]) {
#pragma unroll
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint32_t pixel = first + ROWS * i;
        words[i] = pixel < end ? *reinterpret_cast<const uint4 *>(x + pixel * stride) : make_uint4(0, 0, 0, 0);
    }
}

/// Block (x: vectors of channels, y: ROWS), grid (runs, groups of vectors, images). y of e4m3 is times `inverse`.
template <typename T, bool SILU, typename Y>
DEVICE void apply(Y *y, const T *a, uint32_t rows_a, uint32_t channels_a, const T *b, uint32_t rows_b,
                  uint32_t channels_b, const float *table, uint32_t pixels, float inverse = 1.f) {
    const uint32_t channels = channels_a + channels_b, c = 8 * (blockIdx.y * blockDim.x + threadIdx.x), n = blockIdx.z;
    if (c >= channels) return;
    const bool first = c < channels_a;
    const uint64_t stride = first ? channels_a : channels_b, image = first ? n % rows_a : n % rows_b;
    const T *x = (first ? a + c : b + (c - channels_a)) + image * pixels * stride;
    const uint32_t begin = blockIdx.x * RUN + threadIdx.y, end = min((blockIdx.x + 1) * RUN, pixels);
    // Scale and shift of each channel side by side.
    float line[16];
    load(table + (uint64_t(n) * channels + c) * 2, line);
    y += uint64_t(n) * pixels * channels + c;
#pragma unroll 1
    for (uint32_t at = begin; at < end; at += ROWS * AHEAD) {
        uint4 words[AHEAD];
        load_pixels(x, stride, at, end, words);
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            float values[8];
            unpack<T>(words[i], values);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float z = fmaf(values[j], line[2 * j], line[2 * j + 1]);
                values[j] = SILU ? z * rcp_approx(1.f + exp2_approx(-LOG2_E * z)) : z;
            }
            const uint32_t pixel = at + ROWS * i;
            if constexpr (sizeof(Y) == 1) {
#pragma unroll
                for (int j = 0; j < 8; j++) values[j] *= inverse;
                if (pixel < end) store(y + uint64_t(pixel) * channels, values);
            } else {
                if (pixel < end) *reinterpret_cast<uint4 *>(y + uint64_t(pixel) * channels) = pack<T>(values);
            }
        }
    }
}

}  // namespace
