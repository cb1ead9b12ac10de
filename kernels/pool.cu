// Largest values and means under a window, of maps of f32 that are kept as two bf16 halves; neither counts what lies
// outside. And the mean of whole maps, in f32.
//
//   max, average   y [N, H', W', C]: columns of 32·`first` on of maps whose pixels have `line` pieces
//   mean           y [N, C] of x [N, pixels, C], in f32
//
// Maps are [pixels][⌈C/32⌉][hi 32 | lo 32], as conv2d.cu writes them. Of values that are no number the result is none.
//
// Bytes    4 per value of x and y, once (what windows share comes from the caches); 16 bytes aligned.
// Bound    memory. A thread per 8 channels of a result.
#include "common/split_product.cuh"

namespace {

template <bool MAX>
DEVICE void pool(uint4 *y, const uint4 *x, int rows, int height, int width, int pieces, int out_height, int out_width,
                 int kernel_height, int kernel_width, int stride, int top, int left, int first, int line) {
    const int group = blockIdx.x * 256 + threadIdx.x;
    const int quarter = group % 4, piece = group / 4 % pieces, row = group / 4 / pieces;
    if (row >= rows) return;
    const int image = row / (out_height * out_width), pixel = row % (out_height * out_width);
    const int above = pixel / out_width * stride - top, beside = pixel % out_width * stride - left;
    const int begin = max(above, 0), end = min(above + kernel_height, height);
    const int from = max(beside, 0), to = min(beside + kernel_width, width);
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = MAX ? -INFINITY : 0.0f;
    for (int r = begin; r < end; r++) {
        for (int c = from; c < to; c++) {
            const size_t at = (static_cast<size_t>(image) * height + r) * width + c;
            float one[8];
            load_split(x + (at * pieces + piece) * CHUNKS + quarter, one);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                if (MAX) v[i] = one[i] > v[i] || isnan(one[i]) ? one[i] : v[i];
                else v[i] += one[i];
            }
        }
    }
    if (!MAX) {
        // Within an ulp of a division, which calls a function.
        const float share = rcp_approx(static_cast<float>((end - begin) * (to - from)));
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] *= share;
    }
    store_split(y + (static_cast<size_t>(row) * line + first + piece) * CHUNKS + quarter, v);
}

}  // namespace

#define POOL(NAME, MAX)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256, 4)                                                               \
        pool_##NAME(uint4 *y, const uint4 *x, int rows, int height, int width, int pieces, int out_height,             \
                    int out_width, int kernel_height, int kernel_width, int stride, int top, int left, int first,      \
                    int line) {                                                                                        \
        pool<MAX>(y, x, rows, height, width, pieces, out_height, out_width, kernel_height, kernel_width, stride, top,  \
                  left, first, line);                                                                                  \
    }
POOL(max, true)
POOL(average, false)

/// One thread per 8 channels.
extern "C" __global__ void __launch_bounds__(256)
    pool_mean(float *y, const uint4 *x, int images, int pixels, int channels, int pieces) {
    const int group = blockIdx.x * 256 + threadIdx.x;
    const int quarter = group % 4, piece = group / 4 % pieces, image = group / 4 / pieces;
    if (image >= images) return;
    float sum[8] = {};
    const uint4 *from = x + (static_cast<size_t>(image) * pixels * pieces + piece) * CHUNKS + quarter;
    for (int pixel = 0; pixel < pixels; pixel++) {
        float one[8];
        load_split(from + static_cast<size_t>(pixel) * pieces * CHUNKS, one);
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] += one[i];
    }
    const int first = piece * PIECE + quarter * 8;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (first + i < channels) y[static_cast<size_t>(image) * channels + first + i] = sum[i] / pixels;
    }
}
