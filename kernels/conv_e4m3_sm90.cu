// HEAD
#include "common/conv_wgmma.cuh"

// Maps: x in boxes of 128 channels × 64 pixels (im2col for nine taps), w 128 × BN / 2, both with the 128-byte swizzle. One of y and narrow is
// given; `step` (may be null) points to the row of the bias table; residual and moments may be null.
#define CONV(NAME, T, BN, PINGPONG)                                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 1)                                                                           \
        NAME(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, T *y, e4m3 *narrow, float inverse,              \
             const float *scales, const float *bias, const uint32_t *step, const T *residual, float *moments, int channels, int taps,  \
             int rows, int images, int pixels, int outputs, int out_width, int steps, int bias_stride, int residual_rows,              \
             int activation) {                                                                                                         \
        const Problem of{{images, pixels, outputs, 0}, {channels, 0, 0}, {taps, 0, 0}, {rows, 1, 1}, out_width, 1, steps};             \
        const Epilogue<T> end{y, bias, step, residual, moments, bias_stride, residual_rows, activation};                               \
        convolution<e4m3, T, BN, PINGPONG>(&x, &x, &x, &w, of, end, {scales, narrow, inverse});                                        \
    }
#define CONV_OF(T)                                                                                                                     \
    CONV(conv_e4m3_sm90_160_cooperative_##T, T, 160, false)                                                                            \
    CONV(conv_e4m3_sm90_160_pingpong_##T, T, 160, true)                                                                                \
    CONV(conv_e4m3_sm90_128_cooperative_##T, T, 128, false)                                                                            \
    CONV(conv_e4m3_sm90_128_pingpong_##T, T, 128, true)
CONV_OF(f16)
CONV_OF(bf16)
