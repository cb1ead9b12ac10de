// Sums down the columns of a matrix within a block: warps take rows, lanes take `N` neighbouring columns each.
#pragma once
#include "reduce.cuh"

/// `x`, the thread's sums over its own rows, becomes the sum over all rows of the block, in every warp; warps are added
/// in order. A barrier before the writes lets `shared` be reused at once. All threads must call.
template <int WARPS, int N> DEVICE void add_warps(float (&x)[N], float (&shared)[WARPS][32 * N]) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) shared[warp_id()][32 * i + lane_id()] = x[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = shared[0][32 * i + lane_id()];
#pragma unroll
        for (int w = 1; w < WARPS; w++) x[i] += shared[w][32 * i + lane_id()];
    }
}
