// Sums and maxima over a warp and over a block, always in the same order: run to run and batch to batch the bits are
// equal.
#pragma once
#include "types.cuh"

constexpr uint32_t FULL_WARP = 0xffffffffu;

DEVICE int lane_id() { return threadIdx.x & 31; }
DEVICE int warp_id() { return threadIdx.x >> 5; }

struct Sum {
    static DEVICE float identity() { return 0.0f; }
    static DEVICE float combine(float a, float b) { return a + b; }
};
struct Max {
    static DEVICE float identity() { return -INFINITY; }
    static DEVICE float combine(float a, float b) { return fmaxf(a, b); }
};

/// Every group of `WIDTH` neighbouring lanes gets its own result in each of its lanes (butterfly; all 32 lanes must
/// call).
template <typename Op, int WIDTH = 32> DEVICE float warp_reduce(float x) {
#pragma unroll
    for (int distance = WIDTH / 2; distance > 0; distance /= 2) {
        x = Op::combine(x, __shfl_xor_sync(FULL_WARP, x, distance));
    }
    return x;
}
template <int WIDTH = 32> DEVICE float warp_sum(float x) { return warp_reduce<Sum, WIDTH>(x); }
template <int WIDTH = 32> DEVICE float warp_max(float x) { return warp_reduce<Max, WIDTH>(x); }

/// Reduces `COUNT` values over a block of `WARPS` full warps; every thread gets the results. `shared` holds COUNT·WARPS
/// floats and may be reused by the next call at once (a barrier before the write and one after).
template <typename Op, int WARPS, int COUNT> DEVICE void block_reduce(float (&x)[COUNT], float *shared) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) x[i] = warp_reduce<Op>(x[i]);
    if constexpr (WARPS > 1) {
        __syncthreads();
        if (lane_id() == 0) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) shared[i * WARPS + warp_id()] = x[i];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float total = shared[i * WARPS];
#pragma unroll
            for (int w = 1; w < WARPS; w++) total = Op::combine(total, shared[i * WARPS + w]);
            x[i] = total;
        }
    }
}
template <int WARPS> DEVICE float block_sum(float x, float *shared) {
    float one[1] = {x};
    block_reduce<Sum, WARPS, 1>(one, shared);
    return one[0];
}
template <int WARPS> DEVICE float block_max(float x, float *shared) {
    float one[1] = {x};
    block_reduce<Max, WARPS, 1>(one, shared);
    return one[0];
}

DEVICE double warp_sum_f64(double x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(FULL_WARP, x, distance);
    return x;
}

/// The sum over a block of `WARPS` full warps, in every thread; once in a kernel, because a second call would write
/// what threads of the first still read.
template <int WARPS> DEVICE double block_sum_f64(double x) {
    __shared__ double shared[WARPS];
    x = warp_sum_f64(x);
    if (lane_id() == 0) shared[warp_id()] = x;
    __syncthreads();
    double sum = shared[0];
#pragma unroll
    for (int w = 1; w < WARPS; w++) sum += shared[w];
    return sum;
}
