// Convolutions 3×3 (padding 1, stride 1 or 2, nearest enlargement folded in) and 1×1, and linear layers, of the
// generator, on any sm_80+ card: implicit GEMM over NHWC f16 or bf16, f32 accumulators.
//
//   y[p, o] = epilogue(Σ_k a[p, k]·w[o, k] + bias[o])        p: output pixels of all images, k: the segments one after
//   the other
//
// A segment is one source tensor: 9 taps (row-major) × its channels, or its channels alone (1×1). So a residual block's
// shortcut over two tensors is more k of its second convolution. Source images repeat (row n reads image n % rows). w
// is [outputs, K], packed by the host. A twofold enlargement may come as four phases of 2×2 taps (conv.cuh): 2.25 times
// fewer FLOPs.
//
// Rows of tiles are subtiles of 64 consecutive pixels of one image (the last of an image may be short): the runs over
// which moments are kept for the next group norm. A tile holds one or two consecutive subtiles, also of different
// images.
//
// Epilogue: bias or a row of a table (chosen by a counter in device memory), activation, residual, rounding to T,
// per-run per-channel sums of the rounded values and of their squares. GEGLU: columns of w come in blocks of 8 values
// and 8 gates in turn, so that a thread holds both.
//
// Channels are multiples of 8 (pieces of 16 bytes) or of 4 (8 bytes: latents, k = 36). FLOPs 2·pixels·outputs·K, bytes:
// source 9 times from L2 or L1, once from memory. Bound by the tensor cores from K ≈ 200 on. Exponentials: one per
// value of an activation.
//
// Order of additions: k ascending in steps of 16 from 0 for every output, whatever the tile; moments: rows ascending.
// So an image's bits depend neither on the batch nor on the tile.
//
// Tiles 128×128, 128×64 and 64×64 (4 warps of 64×64, 64×32, 32×32), and 128×16 for few outputs (4 warps of 32×16);
// steps of 32 in k, 3 stages of cp.async, swizzled shared memory without bank conflicts.
#include "common/conv_mma.cuh"

// One of y and f32 is given. `step` (may be null) points to the row of the bias table. Segments have 1, 9 or (phases) 4
// taps, unused ones none.
#define CONV(NAME, T, BM, BN, WM, WN, PIECE, BLOCKS)                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(                                                \
        T *OR_NULL y, float *OR_NULL f32, const T *w, const T *x0, const T *x1, const T *x2,                           \
        const float *OR_NULL bias, const uint32_t *OR_NULL step, const T *OR_NULL residual, float *OR_NULL moments,    \
        int channels0, int channels1, int channels2, int taps0, int taps1, int taps2, int rows0, int rows1, int rows2, \
        int images, int pixels, int outputs, int phase_width, int height, int width, int canvas_height,                \
        int canvas_width, int out_width, int stride, int k, int bias_stride, int residual_rows, int activation) {      \
        const Size size{images, pixels, outputs, phase_width};                                                         \
        const Problem<T> of{x0,           x1,        x2,     w,     channels0, channels1, channels2, taps0,            \
                            taps1,        taps2,     rows0,  rows1, rows2,     height,    width,     canvas_height,    \
                            canvas_width, out_width, stride, k,     size};                                             \
        const Epilogue<T> end{y, bias, step, residual, moments, bias_stride, residual_rows, activation};               \
        convolution<T, T, BM, BN, WM, WN, PIECE>(f32, of, end, {});                                                    \
    }
#define CONV_OF(T)                                                                                                     \
    CONV(conv_128x128_##T, T, 128, 128, 2, 2, 16, 2)                                                                   \
    CONV(conv_128x64_##T, T, 128, 64, 2, 2, 16, 3)                                                                     \
    CONV(conv_64x64_##T, T, 64, 64, 2, 2, 16, 4)                                                                       \
    CONV(conv_128x16_##T, T, 128, 16, 4, 1, 16, 5)                                                                     \
    CONV(conv_128x64_by4_##T, T, 128, 64, 2, 2, 8, 3)                                                                  \
    CONV(conv_128x16_by4_##T, T, 128, 16, 4, 1, 8, 5)
CONV_OF(f16)
CONV_OF(bf16)

EXPORT(RUN, RUN)
EXPORT(THREADS, THREADS)
EXPORT(ROW, ROW)
EXPORT(STAGES, STAGES)
