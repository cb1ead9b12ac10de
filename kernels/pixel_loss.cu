// Softmax cross-entropy of logits enlarged bilinearly, against a label for every pixel, and its gradient. The enlarged
// logits z are never stored; a pixel whose label is not below C is ignored: 0 in the sums.
//
//   forward    logits [N, from^2, C] f32, labels [N, to^2] u32 -> lse [N, to^2] f32 = log sum exp z; losses [N, to] f32
//              (+)= scale*(sum over a line of lse - z[label])
//   backward   d [N, from^2, C] bf16 = slope*(sum over the pixels that a place is part of, by share, of exp(z - lse)
//              - [label])
//
// Order    forward: a lane's classes in order, lanes by butterfly; a warp's pixels in order, warps in order. Backward:
//          a window's pixels in order. All fixed by from, to and C.
// FLOPs    about 12 per class and pixel of to^2 forward, 4 times 10 backward; exponentials: 1 forward, 4 backward.
// Bytes    logits twice, d, 16 per pixel of to^2; everything else from L1 and L2.
// Bound    the special function units and L1. Forward: a block per line, a warp per pixel, lanes over classes.
//          Backward: a thread per value of d: it interpolates down three columns once per line of its window.
#include "common/bilinear.cuh"
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;
constexpr uint32_t THREADS = 32 * WARPS;

}  // namespace

// Grid (lines of labels).
extern "C" __global__ void __launch_bounds__(THREADS)
    pixel_loss_forward_f32(float *losses, float *lse, const float *logits, const uint32_t *labels, uint32_t from,
                           uint32_t to, uint32_t classes, float scale, uint32_t add) {
    __shared__ float shared[WARPS];
    const Axis axis(from, to);
    const uint64_t line = blockIdx.x;
    const Axis::Taps down = axis.taps(blockIdx.x % to);
    logits += uint64_t(blockIdx.x / to) * from * from * classes;
    const float *above = logits + uint64_t(down.first) * from * classes;
    const float *below = logits + uint64_t(down.second) * from * classes;
    float total = 0.f;
    for (uint32_t column = warp_id(); column < to; column += WARPS) {
        const Axis::Taps across = axis.taps(column);
        const uint64_t left = uint64_t(across.first) * classes, right = uint64_t(across.second) * classes;
        auto z = [&](uint32_t c) {
            return between(between(above[left + c], above[right + c], across.share),
                           between(below[left + c], below[right + c], across.share), down.share);
        };
        float top = -INFINITY, sum = 0.f;
#pragma unroll 4
        for (uint32_t c = lane_id(); c < classes; c += 32) top = fmaxf(top, z(c));
        top = warp_max(top);
#pragma unroll 4
        for (uint32_t c = lane_id(); c < classes; c += 32) sum += expf(z(c) - top);
        const float all = top + logf(warp_sum(sum));
        const uint64_t pixel = line * to + column;
        const uint32_t label = labels[pixel];
        if (label < classes) total += all - z(label);
        if (lane_id() == 0) lse[pixel] = all;
    }
    if (lane_id() == 0) shared[warp_id()] = total;
    __syncthreads();
    if (threadIdx.x != 0) return;
    total = shared[0];
#pragma unroll
    for (int w = 1; w < WARPS; w++) total += shared[w];
    losses[line] = (add != 0 ? losses[line] : 0.f) + scale * total;
}

// Grid (lines of logits, pieces of a line).
extern "C" __global__ void __launch_bounds__(THREADS)
    pixel_loss_backward_bf16(bf16 *d, const float *logits, const float *lse, const uint32_t *labels, uint32_t from,
                             uint32_t to, uint32_t classes, float slope) {
    const uint32_t i = blockIdx.y * THREADS + threadIdx.x;
    if (i >= from * classes) return;
    const Axis axis(from, to);
    const uint32_t row = blockIdx.x % from, place = i / classes, c = i % classes;
    const uint64_t image = blockIdx.x / from;
    logits += image * from * from * classes + c;
    // Columns before, here and behind; none of the outer ones is used where there is none.
    const uint64_t columns[3] = {uint64_t(max(place, 1u) - 1) * classes, uint64_t(place) * classes,
                                 uint64_t(min(place + 1, from - 1)) * classes};
    const uint32_t left = axis.begin(place), right = axis.end(place), end = axis.end(row);
    float sum = 0.f;
    for (uint32_t y = axis.begin(row); y < end; y++) {
        const Axis::Part down = axis.part(y, row);
        const uint32_t first = down.before ? row - 1 : row;
        const float *above = logits + uint64_t(first) * from * classes;
        const float *below = logits + uint64_t(min(first + 1, from - 1)) * from * classes;
        float z[3];
#pragma unroll
        for (int k = 0; k < 3; k++) z[k] = between(above[columns[k]], below[columns[k]], down.share);
        const uint64_t pixels = (image * to + y) * to;
#pragma unroll 4
        for (uint32_t x = left; x < right; x++) {
            const uint32_t label = labels[pixels + x];
            if (label >= classes) continue;
            const Axis::Part across = axis.part(x, place);
            const float value = across.before ? between(z[0], z[1], across.share) : between(z[1], z[2], across.share);
            const float p = exp2_approx((value - lse[pixels + x]) * LOG2_E);
            sum = fmaf(down.own * across.own, p - (label == c ? 1.f : 0.f), sum);
        }
    }
    d[uint64_t(blockIdx.x) * from * classes + i] = from_f32<bf16>(slope * sum);
}

EXPORT(THREADS, THREADS)
