// Convolutions and linear layers of the generator on Hopper: conv.cu's products and epilogue through TMA, mbarriers and
// wgmma.
//
// The copy engine gathers: a subtile of 64 consecutive output pixels × 64 channels of one tap is one box of the source
// in im2col mode (padding reads as zero, stride 2 is the map's), or of [image, pixel, channel] where there is one tap.
// Any channels and outputs that are multiples of 8, any height and width; of enlargements the twofold one by phases
// (conv.cuh). Channels past a tensor's last read as zero, so w's columns there (another tap's) do not matter.
//
// One block per SM, in clusters of two along the pixels that share the tile of w: each loads half of it into both
// (multicast). Persistent: a cluster takes one pair of tiles after the other. Warpgroup 0 produces (one thread issues
// all loads), 1 and 2 consume: 128 pixels × BN outputs each, BN = 160 (all widths of Stable Diffusion 1.5's UNet are
// multiples) or 128 (its VAE's).
//
// Two schedules. COOPERATIVE: 256 × BN per block, half for each consumer; least traffic per FLOP (33 bytes per cycle
// and SM from L2 at BN = 160 and the tensor cores' full rate). PING-PONG: 128 × BN, consumers take tiles in turn, so
// one's epilogue runs while the other multiplies; for short K (41 bytes per cycle).
//
// Epilogue per subtile: registers → shared memory (a residual lies there before, so it is added in f32) → rows of
// 16-byte pieces → memory; moments of what was rounded, by columns.
//
// Order of additions: k ascending in steps of 16 for every output, whatever the tile, the schedule and the other
// images; moments: rows ascending. Images of few pixels at small batches leave most SMs idle: k is never split, as that
// would follow the batch.
//
// FLOPs 2·pixels·outputs·K (phases: 4/9 of the nine taps'); bound by the tensor cores but for 1×1 layers at 320
// channels.
#include "common/conv_wgmma.cuh"

// Maps: x in boxes of 64 channels × 64 pixels (im2col for nine taps), w 64 × BN / 2, all with the 128-byte swizzle.
// Unused maps are any valid map. `step` (may be null) points to the row of the bias table; residual and moments may be
// null.
#define CONV(NAME, T, BN, PINGPONG)                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, 1)                                                       \
        NAME(const __grid_constant__ TensorMap x0, const __grid_constant__ TensorMap x1,                           \
             const __grid_constant__ TensorMap x2, const __grid_constant__ TensorMap w, T *y,                      \
             const float *OR_NULL bias, const uint32_t *OR_NULL step, const T *OR_NULL residual,                   \
             float *OR_NULL moments, int channels0, int channels1, int channels2, int taps0, int taps1, int taps2, \
             int rows0, int rows1, int rows2, int images, int pixels, int outputs, int phase_width, int out_width, \
             int stride, int steps, int bias_stride, int residual_rows, int activation) {                          \
        const Problem of{{images, pixels, outputs, phase_width},                                                   \
                         {channels0, channels1, channels2},                                                        \
                         {taps0, taps1, taps2},                                                                    \
                         {rows0, rows1, rows2},                                                                    \
                         out_width,                                                                                \
                         stride,                                                                                   \
                         steps};                                                                                   \
        const Epilogue<T> end{y, bias, step, residual, moments, bias_stride, residual_rows, activation};           \
        convolution<T, T, BN, PINGPONG>(&x0, &x1, &x2, &w, of, end, {});                                           \
    }
#define CONV_OF(T)                                                                                                     \
    CONV(conv_sm90_160_cooperative_##T, T, 160, false)                                                                 \
    CONV(conv_sm90_160_pingpong_##T, T, 160, true)                                                                     \
    CONV(conv_sm90_128_cooperative_##T, T, 128, false)                                                                 \
    CONV(conv_sm90_128_pingpong_##T, T, 128, true)
CONV_OF(f16)
CONV_OF(bf16)

// Of the schedules first cooperative, then ping-pong; of shared memory for tiles of 160 outputs, then of 128.
EXPORT(THREADS, THREADS)
EXPORT(BLOCKS, BLOCKS)
EXPORT(ROW, ROW)
EXPORT(SUBTILES, Config<f16, 128, false>::HEIGHT, Config<f16, 128, true>::HEIGHT)
EXPORT(SHARED, Config<f16, 160, false>::SHARED, Config<f16, 160, true>::SHARED, Config<f16, 128, false>::SHARED,
       Config<f16, 128, true>::SHARED)
