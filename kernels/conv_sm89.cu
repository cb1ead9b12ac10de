// Convolutions 3×3 (padding 1, stride 1) and linear layers over e4m3 on sm_89 and newer: conv.cu's products of one
// segment, its tiles and its epilogue over f16 or bf16, with operands of 8 bits.
//
//   y[p, o] = epilogue(scales[o]·Σ_k a[p, k]·w[o, k] + bias[o])        a: e4m3(x / s_x), w: e4m3(w / s_w[o]), scales[o]
//   = s_x·s_w[o]
//
// y is T, or e4m3(inverse·T(y)) for the layer that reads it: rounded to T first, because that is what the staging
// holds.
//
// A stage's row is 64 bytes as there, i.e. 64 channels: pieces, placement, ldmatrix and the number of instructions per
// step are the same, each of mma.m16n8k32 does twice the products. Channels are multiples of 16 (pieces of 16 bytes) or
// of 8 (8 bytes). FLOPs 2·pixels·outputs·K, bytes half of conv.cu's for x and w. Bound by the tensor cores. An RTX 4090
// multiplies e4m3 into f32 at 330 TF/s (data sheet), twice its f16 rate. Hopper runs conv_e4m3_sm90.cu where channels
// are multiples of 16.
//
// Order of additions: k ascending in steps of 32, whatever the tile and the batch. The sum within a step is the
// hardware's.
//
// Tiles 128×128, 128×64 and 64×64, the middle one for pieces of 8 bytes too.
#include "common/conv_mma.cuh"

// One of y and narrow is given; `step`, residual and moments may be null. 9 taps or 1.
#define CONV(NAME, T, BM, BN, PIECE, BLOCKS)                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                      \
        NAME(T *OR_NULL y, e4m3 *OR_NULL narrow, float inverse, const e4m3 *w, const float *scales, const e4m3 *x,     \
             const float *OR_NULL bias,                                                                                \
             const uint32_t *OR_NULL step, const T *OR_NULL residual, float *OR_NULL moments, int channels,            \
             int taps, int rows, int images, int pixels,                                                               \
             int outputs, int height, int width, int k, int bias_stride, int residual_rows, int activation) {          \
        const Problem<e4m3> of{x, x, x, w,      channels, 0,      0,     taps,  0, 0, rows,                            \
                               1, 1, height, width,    height, width, width, 1, k, {images, pixels, outputs, 0}};      \
        const Epilogue<T> end{y, bias, step, residual, moments, bias_stride, residual_rows, activation};               \
        convolution<e4m3, T, BM, BN, 2, 2, PIECE>(nullptr, of, end, {scales, narrow, inverse});                        \
    }
// Blocks per SM: on Hopper each mma.sync becomes conversions to f16 and two of its f16 ones, for which 128×128 has no
// registers left.
#if __CUDA_ARCH__ == 900
#define BLOCKS(NATIVE, EMULATED) EMULATED
#else
#define BLOCKS(NATIVE, EMULATED) NATIVE
CONV(conv_sm89_128x128_f16, f16, 128, 128, 16, 2)
CONV(conv_sm89_128x128_bf16, bf16, 128, 128, 16, 2)
#endif
#define CONV_OF(T)                                                                                                     \
    CONV(conv_sm89_128x64_##T, T, 128, 64, 16, BLOCKS(3, 2))                                                           \
    CONV(conv_sm89_64x64_##T, T, 64, 64, 16, BLOCKS(4, 3))                                                             \
    CONV(conv_sm89_128x64_by8_##T, T, 128, 64, 8, BLOCKS(3, 2))
CONV_OF(f16)
CONV_OF(bf16)
