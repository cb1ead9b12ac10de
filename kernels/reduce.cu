// Sums over long axes, in an order fixed by the shape: partial sums of fixed pieces, then their sum.
//
//   partials  out[c] += sum over k of partials [K, C], for one or two outputs at once (K partial sums of parameter
//             gradients)
//   squares   sum of x^2 of a flat f32 buffer, f64 throughout (gradient norm)
//   loss      factor*(sum of f64 losses), added to what is there where wanted: the end of a loss
//   finite    flag |= 1 where a value is not a finite number
//   absmax    slot = max(slot, max |x|) of f16 or bf16 (the calibration of e4m3 scales); infinities and NaNs rank above
//             all numbers and stay
//
// Aligned  `x8`, `x4`: 16-byte aligned pointers; `x1`: nothing. Any length.
// FLOPs    2 per value (partials 1).  Bytes: one reading of the input.
// Bound    memory: 16 bytes per access, 4 to 8 accesses in flight per thread.
#include "common/columns.cuh"

namespace {

constexpr int WARPS = 8;
constexpr int THREADS = 32 * WARPS;
/// Values per block of `squares` and `finite`.
constexpr uint32_t PIECE = 1 << 15;
/// Warps of a block that adds partial sums: enough that a few columns of a thousand partials still keep the memory
/// busy.
constexpr int PARTIAL_WARPS = 32;

template <int N> DEVICE void squares(double *partials, const float *x, uint64_t len) {
    const uint64_t start = uint64_t(blockIdx.x) * PIECE, end = min(start + PIECE, len);
    double sum = 0.0;
#pragma unroll 8
    for (uint64_t i = start + threadIdx.x * N; i + N <= end; i += THREADS * N) {
        float a[N];
        load(x + i, a);
#pragma unroll
        for (int j = 0; j < N; j++) sum = fma(double(a[j]), double(a[j]), sum);
    }
    for (uint64_t i = end - (end - start) % N + threadIdx.x; i < end; i += THREADS) {
        sum = fma(double(x[i]), double(x[i]), sum);
    }
    sum = block_sum_f64<WARPS>(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

template <typename T, int N> DEVICE void finite(uint32_t *flag, const T *x, uint64_t len) {
    const uint64_t start = uint64_t(blockIdx.x) * PIECE, end = min(start + PIECE, len);
    bool found = false;
#pragma unroll 4
    for (uint64_t i = start + threadIdx.x * N; i + N <= end; i += THREADS * N) {
        float a[N];
        load(x + i, a);
#pragma unroll
        for (int j = 0; j < N; j++) found |= !isfinite(a[j]);
    }
    for (uint64_t i = end - (end - start) % N + threadIdx.x; i < end; i += THREADS) found |= !isfinite(to_f32(x[i]));
    // The order of these does not matter: integers.
    if (__any_sync(FULL_WARP, found) && lane_id() == 0) atomicOr(flag, 1u);
}

/// Magnitudes of a format with sign, exponent and mantissa in this order rank as their bits do, infinities and then
/// NaNs last.
template <typename T, int N> DEVICE void absmax(float *slot, const T *x, uint64_t len) {
    const uint64_t start = uint64_t(blockIdx.x) * PIECE, end = min(start + PIECE, len);
    const auto magnitude = [](uint32_t bits) { return bits & 0x7fffu; };
    const auto *bits = reinterpret_cast<const uint16_t *>(x);
    uint32_t most = 0;
    if constexpr (N == 8) {
#pragma unroll 4
        for (uint64_t i = start + threadIdx.x * N; i + N <= end; i += THREADS * N) {
            const uint4 piece = *reinterpret_cast<const uint4 *>(x + i);
            const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
            for (int j = 0; j < 4; j++) most = max(most, max(magnitude(words[j]), magnitude(words[j] >> 16)));
        }
    }
    const uint64_t rest = N == 8 ? end - (end - start) % N : start;
    for (uint64_t i = rest + threadIdx.x; i < end; i += THREADS) most = max(most, magnitude(bits[i]));
    most = __reduce_max_sync(FULL_WARP, most);
    // Positive f32 rank as integers do, so the order of these does not matter; a slot of −0 is below all.
    if (lane_id() == 0) {
        atomicMax(reinterpret_cast<int *>(slot), __float_as_int(unpack<T>(most).x));
    }
}

}  // namespace

#define ABSMAX(NAME, T, N)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        reduce_absmax_##NAME(float *slot, const T *x, uint64_t len) {                                                  \
        absmax<T, N>(slot, x, len);                                                                                    \
    }
ABSMAX(x8_f16, f16, 8)
ABSMAX(x8_bf16, bf16, 8)
ABSMAX(x1_f16, f16, 1)
ABSMAX(x1_bf16, bf16, 1)

#define FINITE(NAME, T, N)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        reduce_finite_##NAME(uint32_t *flag, const T *x, uint64_t len) {                                               \
        finite<T, N>(flag, x, len);                                                                                    \
    }
FINITE(x8_bf16, bf16, 8)
FINITE(x1_bf16, bf16, 1)
FINITE(x4_f32, float, 4)
FINITE(x1_f32, float, 1)

// out0[c] += sum over k of partials[k][0][c], and out1 of partials[k][1][c] where the grid has a second row. Grid
// (columns, outputs).
extern "C" __global__ void __launch_bounds__(32 * PARTIAL_WARPS)
    reduce_partials_f32(float *out0, float *OR_NULL out1, const float *partials, uint32_t count, uint32_t cols) {
    __shared__ float shared[PARTIAL_WARPS][32];
    const uint32_t column = blockIdx.x * 32 + lane_id();
    float sum[1] = {};
    if (column < cols) {
#pragma unroll 8
        for (uint32_t k = warp_id(); k < count; k += PARTIAL_WARPS) {
            sum[0] += partials[(uint64_t(k) * gridDim.y + blockIdx.y) * cols + column];
        }
    }
    add_warps(sum, shared);
    if (warp_id() == 0 && column < cols) (blockIdx.y == 0 ? out0 : out1)[column] += sum[0];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    reduce_squares_x4_f32(double *partials, const float *x, uint64_t len) {
    squares<4>(partials, x, len);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    reduce_squares_x1_f32(double *partials, const float *x, uint64_t len) {
    squares<1>(partials, x, len);
}

// One block.
extern "C" __global__ void __launch_bounds__(THREADS)
    reduce_total_f64(double *total, const double *partials, uint32_t count) {
    double sum = 0.0;
#pragma unroll 4
    for (uint32_t k = threadIdx.x; k < count; k += THREADS) sum += partials[k];
    sum = block_sum_f64<WARPS>(sum);
    if (threadIdx.x == 0) *total = sum;
}

// One block.
extern "C" __global__ void __launch_bounds__(THREADS)
    reduce_loss_f32(float *loss, const double *losses, uint32_t count, float factor, uint32_t add) {
    double sum = 0.0;
#pragma unroll 4
    for (uint32_t k = threadIdx.x; k < count; k += THREADS) sum += losses[k];
    sum = block_sum_f64<WARPS>(sum);
    if (threadIdx.x == 0) *loss = (add != 0 ? *loss : 0.f) + static_cast<float>(sum * factor);
}

EXPORT(PIECE, PIECE)
