// Updates of parameters, each value in the CPU's order of operations with every operation rounded on its own: the bits
// are the same.
//
// AdamW over flat buffers: m += (1-b1)*(g - m); v = b2*v + (1-b2)*g*g;
//          p = p*shrink + step_size*(m / (sqrt(v)/correction + eps)),
//          where shrink is 1 - lr*decay for decayed values and 1 for the others. The bf16 copy that the network
//          computes with is written, and the gradient cleared, in the same pass.
//          `settings` [7] f32 in device memory, so that a captured graph takes each step's: step_size = -lr/(1 - b1^t),
//          shrink, 1-b1, b2, 1-b2, correction = sqrt(1 - b2^t), eps.
//          Nothing changes where the gradient's sum of squares or the loss is not a finite number.
// Follow   slow += rate*(fast - slow), the momentum copy of a network, and its bf16 copy; `rate` [1] in device memory,
//          withheld as AdamW is.
// SGD      v = momentum*v + g; w = w - (lr[head]*schedule)*v over heads of `per_head` values each, one after another; the
//          bf16 copy is written where there is one, and the gradient cleared.
//
// Aligned  f32 buffers 16 bytes, the bf16 copy 8 bytes; any length. `decay`: bit i % 8 of byte i / 8 for value i.
// FLOPs    about 15 per value (AdamW), 3 (follow), 4 (SGD).
// Bytes    AdamW 30 per value (read p, m, v, g; write p, m, v, copy; the mask is 1/8), 34 where gradients are cleared;
//          follow 14; SGD 26.
// Bound    memory. 8 accesses of 16 bytes in flight per thread; the exact divisions and root are about 60 instructions
//          per value, a quarter of the time that memory takes.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;
/// Vectors of 4 values per thread.
constexpr int VECTORS = 2;
/// Values per thread of SGD.
constexpr int SGD_VALUES = 8;

struct Adam {
    float step_size, shrink, lerp, beta2, rest2, correction, eps;

    DEVICE explicit Adam(const float *s)
        : step_size(s[0]), shrink(s[1]), lerp(s[2]), beta2(s[3]), rest2(s[4]), correction(s[5]), eps(s[6]) {}

    DEVICE void update(float &p, float &m, float &v, float g, bool decay) const {
        m = __fadd_rn(m, __fmul_rn(lerp, __fsub_rn(g, m)));
        v = __fadd_rn(__fmul_rn(v, beta2), __fmul_rn(__fmul_rn(rest2, g), g));
        const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), correction), eps);
        const float kept = __fmul_rn(p, decay ? shrink : 1.f);
        p = __fadd_rn(kept, __fmul_rn(step_size, __fdiv_rn(m, denominator)));
    }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    optimizer_adamw_f32(float *p, float *m, float *v, float *g, bf16 *OR_NULL rounded, const uint8_t *decay,
                        const float *settings, const double *sum_of_squares, const float *OR_NULL loss, uint64_t len,
                        uint32_t clear) {
    const bool sound = isfinite(*sum_of_squares) && (loss == nullptr || isfinite(*loss));
    const uint64_t start = uint64_t(blockIdx.x) * THREADS * VECTORS * 4 + threadIdx.x * 4;
    const Adam adam(settings);
    float ps[VECTORS][4], ms[VECTORS][4], vs[VECTORS][4], gs[VECTORS][4];
    uint32_t mask[VECTORS];
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        const uint64_t i = start + k * THREADS * 4;
        if (i + 4 <= len) {
            load(p + i, ps[k]);
            load(m + i, ms[k]);
            load(v + i, vs[k]);
            load(g + i, gs[k]);
            mask[k] = decay[i / 8] >> (i % 8);
        }
    }
    if (!sound) return;
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        const uint64_t i = start + k * THREADS * 4;
        if (i + 4 <= len) {
#pragma unroll
            for (int j = 0; j < 4; j++) adam.update(ps[k][j], ms[k][j], vs[k][j], gs[k][j], mask[k] >> j & 1);
            store(p + i, ps[k]);
            store(m + i, ms[k]);
            store(v + i, vs[k]);
            if (rounded != nullptr) store(rounded + i, ps[k]);
            if (clear != 0) store(g + i, {0.f, 0.f, 0.f, 0.f});
        } else {
#pragma unroll 1
            for (uint64_t j = i; j < len; j++) {
                float p1 = p[j], m1 = m[j], v1 = v[j];
                adam.update(p1, m1, v1, g[j], decay[j / 8] >> (j % 8) & 1);
                p[j] = p1, m[j] = m1, v[j] = v1;
                if (rounded != nullptr) rounded[j] = from_f32<bf16>(p1);
                if (clear != 0) g[j] = 0.f;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    optimizer_follow_f32(float *slow, bf16 *rounded, const float *fast, const float *rate, const double *sum_of_squares,
                         const float *OR_NULL loss, uint64_t len) {
    if (!isfinite(*sum_of_squares) || (loss != nullptr && !isfinite(*loss))) return;
    const float share = *rate;
    const uint64_t i = (uint64_t(blockIdx.x) * THREADS + threadIdx.x) * 4;
    if (i + 4 <= len) {
        float s[4], f[4];
        load(slow + i, s);
        load(fast + i, f);
#pragma unroll
        for (int j = 0; j < 4; j++) s[j] = __fadd_rn(s[j], __fmul_rn(share, __fsub_rn(f[j], s[j])));
        store(slow + i, s);
        store(rounded + i, s);
    } else {
#pragma unroll 1
        for (uint64_t j = i; j < len; j++) {
            const float s = __fadd_rn(slow[j], __fmul_rn(share, __fsub_rn(fast[j], slow[j])));
            slow[j] = s;
            rounded[j] = from_f32<bf16>(s);
        }
    }
}

// Grid (values).
extern "C" __global__ void __launch_bounds__(THREADS)
    optimizer_sgd_f32(float *weight, float *velocity, bf16 *OR_NULL rounded, float *gradient, const float *lrs,
                      const float *schedule, uint32_t len, uint32_t per_head, float momentum) {
    const uint32_t start = blockIdx.x * THREADS * SGD_VALUES + threadIdx.x;
    const float factor = *schedule;
    // All is read before anything is written.
    float ws[SGD_VALUES], vs[SGD_VALUES], gs[SGD_VALUES], rates[SGD_VALUES];
#pragma unroll
    for (int r = 0; r < SGD_VALUES; r++) {
        const uint32_t i = start + r * THREADS;
        if (i < len) ws[r] = weight[i], vs[r] = velocity[i], gs[r] = gradient[i], rates[r] = lrs[i / per_head];
    }
#pragma unroll
    for (int r = 0; r < SGD_VALUES; r++) {
        const uint32_t i = start + r * THREADS;
        if (i < len) {
            const float v = __fadd_rn(__fmul_rn(momentum, vs[r]), gs[r]);
            const float w = __fsub_rn(ws[r], __fmul_rn(__fmul_rn(rates[r], factor), v));
            velocity[i] = v;
            weight[i] = w;
            gradient[i] = 0.f;
            if (rounded != nullptr) rounded[i] = from_f32<bf16>(w);
        }
    }
}

EXPORT(THREADS, THREADS)
EXPORT(VALUES, 4 * VECTORS)
EXPORT(FOLLOW_VALUES, 4)
EXPORT(SGD_VALUES, SGD_VALUES)
