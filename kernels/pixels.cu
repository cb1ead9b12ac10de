// Decoder output to 8-bit RGB, and antialiased resizing of that; both with the CPU's bits.
//
//   rgb8     y [N, P, 3] u8 = truncate(clamp((x + 1)/2, 0, 1)*255), x [N, P, 3] f32; not a number becomes 0. flags [N]
//            u32 are added to (by "or"): bit 0 if a value is not finite, bit 1 if a pixel of y differs from the image's
//            first.
//   along    y [rows, W', 3] u8 from x [rows, W, 3], across  y [N, H', W, 3] from x [N, H, W, 3]: each output is a
//            weighted sum of its inputs with weights of 22 fractional bits, rounded. `table` [2 + taps, outputs] i32:
//            first input, number of inputs, weights.
// Aligned  rgb8_x4: P a multiple of 4, x 16 bytes, y 4; rgb8_x1: nothing. across_x4: rows of whole words and both
//          pointers 4 bytes.
//
// FLOPs    rgb8 3 per value; resizing 2 per tap: 512^2 -> 256^2 bicubic 8 taps, 3 million per pass and image.
// Bytes    rgb8 5 per value; 512^2 -> 256^2: 0.79 MB read, 0.39 MB between (in L2), 0.20 MB written.
// Bound    rgb8: memory. Resizing: issue, 8 instructions per byte and tap along, 3 across; it is 1e-4 of an image's
//          time, so it stays simple.
#include "common/resize.cuh"
#include "common/types.cuh"

namespace {

constexpr uint32_t THREADS = 256;
constexpr uint32_t NOT_FINITE = 1, NOT_CONSTANT = 2;

/// 0 … 255, operation by operation as on the CPU.
DEVICE uint32_t level(float x) {
    const float half = __fmul_rn(__fadd_rn(x, 1.f), 0.5f);
    // The maximum with a NaN is the other operand.
    return __float2uint_rz(__fmul_rn(fminf(fmaxf(half, 0.f), 1.f), 255.f));
}

/// Grid (pieces of an image, images); PIXELS pixels per thread.
template <int PIXELS> DEVICE void rgb8(unsigned char *y, uint32_t *flags, const float *x, uint32_t pixels) {
    constexpr int VALUES = 3 * PIXELS;
    const uint64_t image = uint64_t(blockIdx.y) * pixels * 3;
    const uint32_t pixel = (blockIdx.x * THREADS + threadIdx.x) * PIXELS;
    uint32_t found = 0;
    if (pixel < pixels) {
        x += image;
        y += image + 3 * pixel;
        float values[VALUES];
        if constexpr (VALUES % 4 == 0) {
            load(x + 3 * pixel, values);
        } else {
#pragma unroll
            for (int i = 0; i < VALUES; i++) values[i] = x[3 * pixel + i];
        }
        const uint32_t first[3] = {level(x[0]), level(x[1]), level(x[2])};
        uint32_t levels[VALUES];
#pragma unroll
        for (int i = 0; i < VALUES; i++) {
            levels[i] = level(values[i]);
            found |= isfinite(values[i]) ? 0 : NOT_FINITE;
            found |= levels[i] == first[i % 3] ? 0 : NOT_CONSTANT;
        }
        if constexpr (VALUES % 4 == 0) {
#pragma unroll
            for (int i = 0; i < VALUES; i += 4) {
                const uint32_t word = levels[i] | levels[i + 1] << 8 | levels[i + 2] << 16 | levels[i + 3] << 24;
                *reinterpret_cast<uint32_t *>(y + i) = word;
            }
        } else {
#pragma unroll
            for (int i = 0; i < VALUES; i++) y[i] = levels[i];
        }
    }
    found = __reduce_or_sync(FULL_WARP, found);
    if (lane_id() == 0 && found != 0) atomicOr(flags + blockIdx.y, found);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    pixels_rgb8_x4(unsigned char *y, uint32_t *flags, const float *x, uint32_t pixels) {
    rgb8<4>(y, flags, x, pixels);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    pixels_rgb8_x1(unsigned char *y, uint32_t *flags, const float *x, uint32_t pixels) {
    rgb8<1>(y, flags, x, pixels);
}

// A warp per row.
extern "C" __global__ void __launch_bounds__(THREADS)
    pixels_along_u8(unsigned char *y, const unsigned char *x, int *table, uint32_t rows, uint32_t width,
                    uint32_t to_width) {
    const uint32_t row = blockIdx.x * (THREADS / 32) + warp_id();
    if (row >= rows) return;
    const Axis axis = {static_cast<int>(width), static_cast<int>(to_width), table};
    resize_row_along({y, static_cast<int>(3 * to_width)}, x, 3 * width, axis, row);
}

namespace {

/// A warp per row of the result; grid (rows, images).
template <bool WORDS>
DEVICE void across(unsigned char *y, const unsigned char *x, int *table, uint32_t width, uint32_t height,
                   uint32_t to_height) {
    const uint32_t row = blockIdx.x * (THREADS / 32) + warp_id(), length = 3 * width;
    if (row >= to_height) return;
    const Axis axis = {static_cast<int>(height), static_cast<int>(to_height), table};
    const Rows to = {y + uint64_t(blockIdx.y) * to_height * length, static_cast<int>(length)};
    resize_row_across<WORDS, WORDS>(to, x + uint64_t(blockIdx.y) * height * length, length, length, axis, row);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    pixels_across_x4_u8(unsigned char *y, const unsigned char *x, int *table, uint32_t width, uint32_t height,
                        uint32_t to_height) {
    across<true>(y, x, table, width, height, to_height);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    pixels_across_x1_u8(unsigned char *y, const unsigned char *x, int *table, uint32_t width, uint32_t height,
                        uint32_t to_height) {
    across<false>(y, x, table, width, height, to_height);
}

EXPORT(THREADS, THREADS)
EXPORT(NOT_FINITE, NOT_FINITE)
EXPORT(NOT_CONSTANT, NOT_CONSTANT)
