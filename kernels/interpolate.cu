// Positions of a grid of from x from places for one of to x to, f32: Keys' cubic (a = -0.75) of the places' centres,
// edges repeated; row 0, the class token's, stays as it is.
//
//   forward   y [1 + to^2, D] from pos [1 + from^2, D]
//   backward  dpos += the gradient of y, gathered by rows of the old grid: no two threads write one value
//
// Aligned  4 bytes.  Bytes: both grids once.  Bound: latency; once per step. A block per row and 128 columns.
#include "common/types.cuh"

namespace {

constexpr uint32_t THREADS = 128;
constexpr float A = -0.75f;

DEVICE float near_tap(float x) { return ((A + 2.0f) * x - (A + 3.0f)) * x * x + 1.0f; }
DEVICE float far_tap(float x) { return ((A * x - 5.0f * A) * x + 8.0f * A) * x - 4.0f * A; }

/// What place `at` of a side of the new grid is made of.
struct Taps {
    int place[4];
    float weight[4];

    DEVICE Taps(uint32_t at, uint32_t from, uint32_t to) {
        const float real = float(from) / float(to) * (float(at) + 0.5f) - 0.5f, first = floorf(real), t = real - first;
        weight[0] = far_tap(t + 1.0f), weight[1] = near_tap(t), weight[2] = near_tap(1.0f - t),
        weight[3] = far_tap(2.0f - t);
#pragma unroll
        for (int tap = 0; tap < 4; tap++) place[tap] = min(max(int(first) + tap - 1, 0), int(from) - 1);
    }

    /// The weight of a place of the old grid.
    DEVICE float of(uint32_t old) const {
        float sum = 0.0f;
#pragma unroll
        for (int tap = 0; tap < 4; tap++) sum += place[tap] == int(old) ? weight[tap] : 0.0f;
        return sum;
    }
};

}  // namespace

// Grid (rows of the new grid, columns).
extern "C" __global__ void __launch_bounds__(THREADS)
    interpolate_forward(float *y, const float *pos, uint32_t from, uint32_t to, uint32_t d) {
    const uint32_t row = blockIdx.x, column = blockIdx.y * THREADS + threadIdx.x;
    if (column >= d) return;
    float sum = 0.0f;
    if (row == 0) {
        sum = pos[column];
    } else {
        const Taps down((row - 1) / to, from, to), across((row - 1) % to, from, to);
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const uint64_t old = 1 + uint64_t(down.place[i]) * from + across.place[j];
                sum = fmaf(down.weight[i] * across.weight[j], pos[old * d + column], sum);
            }
        }
    }
    y[uint64_t(row) * d + column] = sum;
}

// Grid (rows of the old grid, columns).
extern "C" __global__ void __launch_bounds__(THREADS)
    interpolate_backward(float *dpos, const float *dy, uint32_t from, uint32_t to, uint32_t d) {
    const uint32_t row = blockIdx.x, column = blockIdx.y * THREADS + threadIdx.x;
    if (column >= d) return;
    float sum = 0.0f;
    if (row == 0) {
        sum = dy[column];
    } else {
        const uint32_t old_row = (row - 1) / from, old_column = (row - 1) % from;
        for (uint32_t i = 0; i < to; i++) {
            const float a = Taps(i, from, to).of(old_row);
            if (a == 0.0f) continue;
            for (uint32_t j = 0; j < to; j++) {
                const float b = Taps(j, from, to).of(old_column);
                if (b != 0.0f) sum = fmaf(a * b, dy[(1 + uint64_t(i) * to + j) * d + column], sum);
            }
        }
    }
    dpos[uint64_t(row) * d + column] += sum;
}

EXPORT(THREADS, THREADS)
