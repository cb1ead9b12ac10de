// Rows of tokens by whole numbers, before and behind the encoder of a masked autoencoder.
//
//   take    y [N, to, D] = x[n, rows[n, t]], x [N, from, D], bf16
//   place   y [N, to, D] = (rows[n, t] < from ? x[n, rows[n, t]] : fill) + pos[at[n, t]], or pos[t] without `at`;
//           fill [D], pos [., D] f32
//   fill    partials [N, D] f32: per image the sum of dy [N, to, D] over the places that hold the filler, in their
//           order
//
// Rows and positions are checked by the host.
// Aligned  `x8`: D a multiple of 8, pointers 16 bytes; `x1`: nothing.
// Bytes    take, place: 4 per value, positions and filler from L2; fill: 2 per value of a filled place.
// Bound    memory. A thread per 8 values; fill: a thread per 8 columns of an image.
#include "common/types.cuh"

namespace {

constexpr uint32_t THREADS = 256;
constexpr uint32_t FILL_THREADS = 64;

/// Image, place and column of a thread's first value; false beyond the end.
template <int N> DEVICE bool find(uint32_t n, uint32_t to, uint32_t d, uint32_t &place, uint32_t &column) {
    const uint32_t vectors = d / N, i = blockIdx.x * THREADS + threadIdx.x;
    place = i / vectors, column = i % vectors * N;
    return place < n * to;
}

template <int N>
DEVICE void take(bf16 *y, const bf16 *x, const uint32_t *rows, uint32_t n, uint32_t from, uint32_t to, uint32_t d) {
    uint32_t place, column;
    if (!find<N>(n, to, d, place, column)) return;
    float value[N];
    load(x + (uint64_t(place / to) * from + rows[place]) * d + column, value);
    store(y + uint64_t(place) * d + column, value);
}

template <int N>
DEVICE void put(bf16 *y, const bf16 *x, const float *fill, const float *pos, const uint32_t *rows, const uint32_t *at,
                uint32_t n, uint32_t from, uint32_t to, uint32_t d) {
    uint32_t place, column;
    if (!find<N>(n, to, d, place, column)) return;
    const uint32_t row = rows[place];
    float value[N], position[N];
    if (row < from) {
        load(x + (uint64_t(place / to) * from + row) * d + column, value);
    } else {
        load(fill + column, value);
    }
    load(pos + uint64_t(at == nullptr ? place % to : at[place]) * d + column, position);
#pragma unroll
    for (int j = 0; j < N; j++) value[j] += position[j];
    store(y + uint64_t(place) * d + column, value);
}

// Grid (columns, images).
template <int N>
DEVICE void fill(float *partials, const bf16 *dy, const uint32_t *rows, uint32_t from, uint32_t to, uint32_t d) {
    const uint32_t column = (blockIdx.x * FILL_THREADS + threadIdx.x) * N;
    if (column >= d) return;
    const uint64_t image = blockIdx.y;
    float sum[N] = {};
#pragma unroll 4
    for (uint32_t t = 0; t < to; t++) {
        if (rows[image * to + t] >= from) {
            float value[N];
            load(dy + (image * to + t) * d + column, value);
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] += value[j];
        }
    }
    store(partials + image * d + column, sum);
}

}  // namespace

#define ROWS(NAME, N)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        rows_take_##NAME(bf16 *y, const bf16 *x, const uint32_t *rows, uint32_t n, uint32_t from, uint32_t to,         \
                         uint32_t d) {                                                                                 \
        take<N>(y, x, rows, n, from, to, d);                                                                           \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        rows_place_##NAME(bf16 *y, const bf16 *x, const float *fill, const float *pos, const uint32_t *rows,           \
                          const uint32_t *OR_NULL places, uint32_t n, uint32_t from, uint32_t to, uint32_t d) {        \
        put<N>(y, x, fill, pos, rows, places, n, from, to, d);                                                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(FILL_THREADS) rows_fill_##NAME(                                       \
        float *partials, const bf16 *dy, const uint32_t *rows, uint32_t from, uint32_t to, uint32_t d) {               \
        fill<N>(partials, dy, rows, from, to, d);                                                                      \
    }
ROWS(x8_bf16, 8)
ROWS(x1_bf16, 1)

EXPORT(THREADS, THREADS)
EXPORT(FILL_THREADS, FILL_THREADS)
