// Bilinear enlarging of maps, corners not aligned, and the gradient of it.
//
//   forward    columns column ... column + C - 1 of y [N, to^2, columns] from the rows lead ... of x [N, lead + from^2,
//              C], bf16, in f32; added to what is there where `add`
//   backward   dx from those columns of dy, gathered: in the order of the pixels that a place is part of; added to what
//              is there where `add`, else the leading rows become 0
//   gather     the same for large factors: the lines of a window are dealt to the warps of a block, whose sums are
//              added in order
//
// Aligned  `x8`: C, column and columns multiples of 8, pointers 16 bytes; `x1`: nothing.
// FLOPs    8 per value of y either way.  Bytes: x and those columns of y once; the fourfold reading is from L1 and L2.
// Bound    memory. A warp per pixel (gather: a block), a thread per 8 channels of it.
#include "common/bilinear.cuh"
#include "common/columns.cuh"
#include "common/maps.cuh"

namespace {

/// Values read ahead of their use in a window.
constexpr int AHEAD = 4;

template <int N> DEVICE void add_to(float (&value)[N], const bf16 *there) {
    float old[N];
    load(there, old);
#pragma unroll
    for (int j = 0; j < N; j++) value[j] += old[j];
}

template <int N>
DEVICE void forward(bf16 *y, const bf16 *x, uint32_t lead, uint32_t from, uint32_t to, uint32_t c, uint32_t column,
                    uint32_t columns, uint32_t add) {
    const Axis axis(from, to);
    const uint64_t line = blockIdx.x, image = blockIdx.x / to;
    const Axis::Taps down = axis.taps(blockIdx.x % to);
    x += (image * (lead + from * from) + lead) * c;
    const bf16 *above = x + uint64_t(down.first) * from * c, *below = x + uint64_t(down.second) * from * c;
    const Pixels pixels(to);
    for (uint32_t at = pixels.first; at < pixels.end; at += WARPS) {
        const Axis::Taps across = axis.taps(at);
        const uint64_t left = uint64_t(across.first) * c, right = uint64_t(across.second) * c;
        bf16 *out = y + (line * to + at) * columns + column;
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float corners[4][N], value[N];
            load(above + left + channel, corners[0]);
            load(above + right + channel, corners[1]);
            load(below + left + channel, corners[2]);
            load(below + right + channel, corners[3]);
#pragma unroll
            for (int j = 0; j < N; j++) {
                value[j] = between(between(corners[0][j], corners[1][j], across.share),
                                   between(corners[2][j], corners[3][j], across.share), down.share);
            }
            if (add != 0) add_to(value, out + channel);
            store(out + channel, value);
        }
    }
}

/// Adds to `sum` what lines `first`, `first` + `step`, ... before `end` of dy hold of a place; `dy` points at the
/// thread's channels of its image's first pixel.
template <int N>
DEVICE void window(float (&sum)[N], const bf16 *dy, const Axis &axis, uint32_t row, uint32_t place, uint32_t first,
                   uint32_t step, uint32_t end, uint32_t columns) {
    const uint32_t left = axis.begin(place), right = axis.end(place);
    for (uint32_t line = first; line < end; line += step) {
        const float down = axis.part(line, row).own;
#pragma unroll AHEAD
        for (uint32_t at = left; at < right; at++) {
            const float weight = down * axis.part(at, place).own;
            float value[N];
            load(dy + (uint64_t(line) * axis.to + at) * columns, value);
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] = fmaf(weight, value[j], sum[j]);
        }
    }
}

template <int N>
DEVICE void backward(bf16 *dx, const bf16 *dy, uint32_t lead, uint32_t from, uint32_t to, uint32_t c, uint32_t column,
                     uint32_t columns, uint32_t add) {
    const Axis axis(from, to);
    const uint32_t row = blockIdx.x % from;
    const uint64_t image = blockIdx.x / from;
    dx += image * (lead + from * from) * c;
    dy += image * to * to * columns + column;
    // The first line's warps have the leading rows too.
    if (row == 0 && add == 0) {
        for (uint32_t i = blockIdx.y * WARPS + warp_id(); i < lead; i += gridDim.y * WARPS) {
            const float none[N] = {};
            for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
                store(dx + uint64_t(i) * c + channel, none);
            }
        }
    }
    const Pixels pixels(from);
    for (uint32_t place = pixels.first; place < pixels.end; place += WARPS) {
        bf16 *out = dx + (lead + uint64_t(row) * from + place) * c;
        for (uint32_t channel = lane_id() * N; channel < c; channel += 32 * N) {
            float sum[N] = {};
            window(sum, dy + channel, axis, row, place, axis.begin(row), 1, axis.end(row), columns);
            if (add != 0) add_to(sum, out + channel);
            store(out + channel, sum);
        }
    }
}

// Grid (rows of all images, leading ones among them; pieces of 32 vectors).
template <int N>
DEVICE void gather(bf16 *dx, const bf16 *dy, uint32_t lead, uint32_t from, uint32_t to, uint32_t c, uint32_t column,
                   uint32_t columns, uint32_t add) {
    __shared__ float shared[WARPS][32 * N];
    const Axis axis(from, to);
    const uint32_t rows = lead + from * from, channel = (blockIdx.y * 32 + lane_id()) * N;
    const uint64_t image = blockIdx.x / rows;
    const uint32_t place = blockIdx.x % rows;
    bf16 *out = dx + uint64_t(blockIdx.x) * c + channel;
    float sum[N] = {};
    if (place >= lead && channel < c) {
        const uint32_t row = (place - lead) / from, at = (place - lead) % from;
        dy += image * to * to * columns + column + channel;
        window(sum, dy, axis, row, at, axis.begin(row) + warp_id(), WARPS, axis.end(row), columns);
    }
    add_warps(sum, shared);
    if (warp_id() != 0 || channel >= c) return;
    if (add != 0) add_to(sum, out);
    store(out, sum);
}

}  // namespace

// Grids (lines of all maps, pieces of a line).
#define BILINEAR(NAME, N)                                                                                              \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        bilinear_forward_##NAME(bf16 *y, const bf16 *x, uint32_t lead, uint32_t from, uint32_t to, uint32_t c,         \
                                uint32_t column, uint32_t columns, uint32_t add) {                                     \
        forward<N>(y, x, lead, from, to, c, column, columns, add);                                                     \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 4)                                                        \
        bilinear_backward_##NAME(bf16 *dx, const bf16 *dy, uint32_t lead, uint32_t from, uint32_t to, uint32_t c,      \
                                 uint32_t column, uint32_t columns, uint32_t add) {                                    \
        backward<N>(dx, dy, lead, from, to, c, column, columns, add);                                                  \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                                           \
        bilinear_gather_##NAME(bf16 *dx, const bf16 *dy, uint32_t lead, uint32_t from, uint32_t to, uint32_t c,        \
                               uint32_t column, uint32_t columns, uint32_t add) {                                      \
        gather<N>(dx, dy, lead, from, to, c, column, columns, add);                                                    \
    }
BILINEAR(x8_bf16, 8)
BILINEAR(x1_bf16, 1)

EXPORT(PIXELS, PIXELS)
EXPORT(WARPS, WARPS)
