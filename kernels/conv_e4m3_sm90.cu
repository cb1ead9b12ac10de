// Convolutions 3×3 (padding 1, stride 1) and linear layers over e4m3 on Hopper: conv_sm90.cu's kernels with operands of
// 8 bits, and conv_sm89.cu's meaning of scales and of y in e4m3. Channels are multiples of 16 (rows of tensor maps are
// aligned to 16 bytes).
//
// A stage's row is 128 bytes as there, i.e. 128 channels of one tap: boxes, stages, barriers and schedules are the
// same, each wgmma does twice the products (k32). Where a tap's last row is at most half full (320 channels: 2.5 rows)
// only that half is multiplied; it still moves whole, channels past the tensor's last as zeros that nobody reads. The
// outputs' factors lie beside the bias in shared memory.
//
// The tensor core adds e4m3 products in 22 bits: each instruction cuts its products and the sum so far off 13 bits
// behind the leading one of the largest (DeepSeek-V3, §3.5.2; SageAttention2). Sums are not promoted to f32 on the way:
// the simulator, which does the same, gives an error of 0.05, 0.1 and 0.25 % of the sums' root mean square at K = 720,
// 2,880 and 11,520, where rounding the operands to e4m3 costs 3.7 %.
//
// Order of additions: k ascending in steps of 32, whatever the tile, the schedule and the other images.
//
// FLOPs 2·pixels·outputs·K, bytes K·(pixels + outputs) / taps + 2·pixels·outputs; bound by the tensor cores but for
// linear layers C → C and C → 3C at 320 channels (memory).
#include "common/conv_wgmma.cuh"

// Maps: x in boxes of 128 channels × 64 pixels (im2col for nine taps), w 128 × BN / 2, both with the 128-byte swizzle.
// One of y and narrow is given; `step` (may be null) points to the row of the bias table; residual and moments may be
// null.
#define CONV(NAME, T, BN, PINGPONG)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) NAME(                                                    \
        const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, T *OR_NULL y, e4m3 *OR_NULL narrow, \
        float inverse, const float *scales, const float *OR_NULL bias, const uint32_t *OR_NULL step,                  \
        const T *OR_NULL residual, float *OR_NULL moments, int channels, int taps, int rows, int images, int pixels,  \
        int outputs, int out_width, int steps, int bias_stride, int residual_rows, int activation) {                  \
        const Problem of{                                                                                             \
            {images, pixels, outputs, 0}, {channels, 0, 0}, {taps, 0, 0}, {rows, 1, 1}, out_width, 1, steps};         \
        const Epilogue<T> end{y, bias, step, residual, moments, bias_stride, residual_rows, activation};              \
        convolution<e4m3, T, BN, PINGPONG>(&x, &x, &x, &w, of, end, {scales, narrow, inverse});                       \
    }
#define CONV_OF(T)                                                                                                     \
    CONV(conv_e4m3_sm90_160_cooperative_##T, T, 160, false)                                                            \
    CONV(conv_e4m3_sm90_160_pingpong_##T, T, 160, true)                                                                \
    CONV(conv_e4m3_sm90_128_cooperative_##T, T, 128, false)                                                            \
    CONV(conv_e4m3_sm90_128_pingpong_##T, T, 128, true)
CONV_OF(f16)
CONV_OF(bf16)

// Of the schedules first cooperative, then ping-pong; of shared memory for tiles of 160 outputs, then of 128.
EXPORT(SHARED, Config<e4m3, 160, false>::SHARED, Config<e4m3, 160, true>::SHARED, Config<e4m3, 128, false>::SHARED,
       Config<e4m3, 128, true>::SHARED)
