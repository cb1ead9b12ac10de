// Ordinary kernels, as nvcc compiles them. MISTAKE, where it is set, plants one and leaves the other kernels out: see
// ../compiled.rs for what must be said of each. corpus.sh compiles all of it.
#include <cuda_pipeline.h>

#ifndef MISTAKE
#define MISTAKE 0
#endif

#if MISTAKE == 0 || MISTAKE == 1
// out[x][y] = in[y][x], both n x n, through tiles of 32 x 32.
extern "C" __global__ void transpose(float* out, const float* in, int n) {
  __shared__ float tile[32][33];
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int i = 0; i < 32; i += 8)
    if (x < n && y + i < n) tile[threadIdx.y + i][threadIdx.x] = in[(y + i) * n + x];
#if MISTAKE != 1
  __syncthreads();
#endif
  const int u = blockIdx.y * 32 + threadIdx.x, v = blockIdx.x * 32 + threadIdx.y;
  for (int i = 0; i < 32; i += 8)
    if (u < n && v + i < n) out[(v + i) * n + u] = tile[threadIdx.x][threadIdx.y + i];
}
#endif

#if MISTAKE == 0 || MISTAKE == 2
// Running sums of each block of 256 values, in place.
extern "C" __global__ void scan(unsigned* values, int n) {
  __shared__ unsigned sums[8];
  const int i = blockIdx.x * 256 + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned x = i < n ? values[i] : 0;
  for (int d = 1; d < 32; d *= 2) {
    const unsigned y = __shfl_up_sync(~0u, x, d);
    if (lane >= d) x += y;
  }
#if MISTAKE == 2
  if (lane >= 30) sums[warp] = x;
#else
  if (lane == 31) sums[warp] = x;
#endif
  __syncthreads();
  for (int w = 0; w < warp; w++) x += sums[w];
  if (i < n) values[i] = x;
}
#endif

#if MISTAKE == 0 || MISTAKE == 3
// counts[v] = how often v is among the values, all below 64.
extern "C" __global__ void histogram(unsigned* counts, const unsigned* values, int n) {
  __shared__ unsigned local[64];
#if MISTAKE != 3
  if (threadIdx.x < 64) local[threadIdx.x] = 0;
#endif
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[values[i]], 1);
  __syncthreads();
  if (threadIdx.x < 64) atomicAdd(&counts[threadIdx.x], local[threadIdx.x]);
}
#endif

#if MISTAKE == 0 || MISTAKE == 4
// Softmax of each row of n values, a warp a row.
extern "C" __global__ void softmax(float* out, const float* in, int rows, int n) {
  const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
#if MISTAKE == 4
  const int end = n + 1;
#else
  const int end = n;
#endif
  float top = -INFINITY, sum = 0;
  for (int i = lane; i < end; i += 32) top = fmaxf(top, in[row * n + i]);
  for (int d = 16; d; d /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
  for (int i = lane; i < n; i += 32) sum += __expf(in[row * n + i] - top);
  for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
  for (int i = lane; i < n; i += 32) out[row * n + i] = __expf(in[row * n + i] - top) / sum;
}
#endif

#if MISTAKE == 0 || MISTAKE == 5
// Bitonic sort of 512 values by 256 threads.
extern "C" __global__ void sort(unsigned* values) {
  __shared__ unsigned v[512];
  v[threadIdx.x] = values[threadIdx.x];
  v[threadIdx.x + 256] = values[threadIdx.x + 256];
  for (int k = 2; k <= 512; k *= 2)
    for (int j = k / 2; j > 0; j /= 2) {
#if MISTAKE == 5
      if (j != 64) __syncthreads();
#else
      __syncthreads();
#endif
      const int i = 2 * threadIdx.x - (threadIdx.x & (j - 1)), o = i + j;
      const unsigned a = v[i], b = v[o];
      if ((a > b) == ((i & k) == 0)) v[i] = b, v[o] = a;
    }
  __syncthreads();
  values[threadIdx.x] = v[threadIdx.x];
  values[threadIdx.x + 256] = v[threadIdx.x + 256];
}
#endif

#if MISTAKE == 0 || MISTAKE == 6 || MISTAKE == 7
// c = a b, all n x n with n a multiple of 32: tiles of 32 x 32 copied ahead asynchronously, two in flight.
extern "C" __global__ void matmul(float* c, const float* a, const float* b, int n) {
  __shared__ __align__(16) float as[2][32][32], bs[2][32][32];
  const int tx = threadIdx.x % 8 * 4, ty = threadIdx.x / 8;
  auto fetch = [&](int stage, int k) {
    __pipeline_memcpy_async(&as[stage][ty][tx], &a[(blockIdx.y * 32 + ty) * n + k + tx], 16);
    __pipeline_memcpy_async(&bs[stage][ty][tx], &b[(k + ty) * n + blockIdx.x * 32 + tx], 16);
    __pipeline_commit();
  };
  float sum[4] = {};
  fetch(0, 0);
  for (int k = 0, stage = 0; k < n; k += 32, stage ^= 1) {
    if (k + 32 < n) {
      fetch(stage ^ 1, k + 32);
      __pipeline_wait_prior(1);
    } else {
#if MISTAKE == 6
      __pipeline_wait_prior(1);
#else
      __pipeline_wait_prior(0);
#endif
    }
    __syncthreads();
#pragma unroll 4
    for (int i = 0; i < 32; i++)
      for (int j = 0; j < 4; j++) sum[j] += as[stage][ty][i] * bs[stage][i][tx + j];
#if MISTAKE != 7
    __syncthreads();
#endif
  }
  for (int j = 0; j < 4; j++) c[(blockIdx.y * 32 + ty) * n + blockIdx.x * 32 + tx + j] = sum[j];
}
#endif
