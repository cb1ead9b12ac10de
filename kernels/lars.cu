// LARS, tensor by tensor of a flat buffer: d = g + decay * p; m = momentum * m + factor * d; p -= lr * m, where factor
// is trust * |p| / |d|; tensors that are not scaled have decay 0 and factor 1.
//
//   pieces    [P, 3]: first value, length, tensor of runs of the buffer; those of tensor t are first[t] .. first[t + 1]
//   scaled    [T]: whether a tensor is decayed and scaled
//   settings  [4] in device memory, so that a captured graph takes each step's: lr, momentum, decay, trust
//   squares   partials [P, 2] f64 = sums of p^2 and d^2 of a piece
//   update    every piece, its bf16 copy, and its gradient cleared; nothing where the gradient's sum of squares or the
//             loss is not a finite number
//
// Order    a thread's values in order, lanes by butterfly, warps in order; then pieces the same way.
// Aligned  nothing.  Bytes: squares 8 per value, update 22.  Bound: memory.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;
constexpr int THREADS = 32 * WARPS;

/// The sums of two numbers over the block.
DEVICE void both(double &a, double &b) {
    a = block_sum_f64<WARPS>(a);
    __syncthreads();
    b = block_sum_f64<WARPS>(b);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    lars_squares_f32(double *partials, const float *p, const float *g, const float *settings, const uint32_t *pieces) {
    const uint32_t start = pieces[3 * blockIdx.x], len = pieces[3 * blockIdx.x + 1];
    const float decay = settings[2];
    double squares = 0.0, step = 0.0;
#pragma unroll 4
    for (uint32_t i = start + threadIdx.x; i < start + len; i += THREADS) {
        const float d = __fadd_rn(g[i], __fmul_rn(decay, p[i]));
        squares = fma(double(p[i]), double(p[i]), squares);
        step = fma(double(d), double(d), step);
    }
    both(squares, step);
    if (threadIdx.x == 0) partials[2 * blockIdx.x] = squares, partials[2 * blockIdx.x + 1] = step;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    lars_update_f32(float *p, float *m, float *g, bf16 *rounded, const double *partials, const uint32_t *pieces,
                    const uint32_t *first, const uint32_t *scaled, const float *settings, const double *sum_of_squares,
                    const float *loss) {
    if (!isfinite(*sum_of_squares) || !isfinite(*loss)) return;
    const uint32_t *own = pieces + 3 * blockIdx.x;
    const uint32_t start = own[0], len = own[1], tensor = own[2];
    double squares = 0.0, step = 0.0;
    for (uint32_t i = first[tensor] + threadIdx.x; i < first[tensor + 1]; i += THREADS) {
        squares += partials[2 * i];
        step += partials[2 * i + 1];
    }
    both(squares, step);
    const bool adapted = scaled[tensor] != 0;
    const float lr = settings[0], momentum = settings[1], decay = adapted ? settings[2] : 0.f;
    const bool moves = adapted && squares > 0.0 && step > 0.0;
    const float factor = moves ? static_cast<float>(double(settings[3]) * sqrt(squares) / sqrt(step)) : 1.f;
#pragma unroll 4
    for (uint32_t i = start + threadIdx.x; i < start + len; i += THREADS) {
        const float d = __fadd_rn(g[i], __fmul_rn(decay, p[i]));
        const float moved = __fadd_rn(__fmul_rn(momentum, m[i]), __fmul_rn(factor, d));
        const float value = __fsub_rn(p[i], __fmul_rn(lr, moved));
        m[i] = moved;
        p[i] = value;
        rounded[i] = from_f32<bf16>(value);
        g[i] = 0.f;
    }
}

EXPORT(THREADS, THREADS)
