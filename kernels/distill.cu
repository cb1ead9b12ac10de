// Self-distillation among K classes: a student's rows against a teacher's of other views of the same image (DINO).
//
//   rows       lse [rows] of (x − centre)·sharpness over K; no centre: 0; sharpness from device memory or a constant
//   gradient   student row r is image r mod n of view r / n; its target q is the sum of the softmaxes of the teacher's
//              rows of that image in the other views. Loss of the row = −Σ_k q·(s·sharpness − lse), f64;
//              ds = scale·(views of q·softmax − q), bf16
//   centre     c = keep·c + (1 − keep)·mean over the teacher's rows
//
// Order    a thread's values in order, lanes by butterfly, warps in order: fixed by K and the rows.
// Aligned  nothing.  FLOPs: about 30 per logit.  Bytes: teacher's and student's logits twice, ds once.
// Bound    memory; a block per row.
#include "common/reduce.cuh"

namespace {

constexpr int WARPS = 8;
constexpr int THREADS = 32 * WARPS;

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    distill_rows_f32(float *lse, const float *x, const float *OR_NULL centre, const float *OR_NULL sharpness,
                     float constant, uint32_t classes) {
    __shared__ float shared[WARPS];
    const float factor = sharpness != nullptr ? *sharpness : constant;
    x += uint64_t(blockIdx.x) * classes;
    float top = -INFINITY, sum = 0.f;
#pragma unroll 4
    for (uint32_t k = threadIdx.x; k < classes; k += THREADS) {
        const float t = (x[k] - (centre != nullptr ? centre[k] : 0.f)) * factor;
        if (t > top) {
            sum *= expf(top - t);
            top = t;
        }
        sum += expf(t - top);
    }
    const float all = block_max<WARPS>(top, shared);
    // A thread without a value has neither.
    const float total = block_sum<WARPS>(top == -INFINITY ? sum : sum * expf(top - all), shared);
    if (threadIdx.x == 0) lse[blockIdx.x] = all + logf(total);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    distill_gradient_f32(double *losses, bf16 *ds, const float *s, const float *lse, const float *t, const float *lse_t,
                         const float *centre, const float *sharpness_t, float sharpness, float scale, uint32_t images,
                         uint32_t teachers, uint32_t classes) {
    const uint32_t row = blockIdx.x, view = row / images, image = row % images;
    const float of_teacher = *sharpness_t, own = lse[row];
    const float views = static_cast<float>(view < teachers ? teachers - 1 : teachers);
    s += uint64_t(row) * classes;
    ds += uint64_t(row) * classes;
    double loss = 0.0;
    for (uint32_t k = threadIdx.x; k < classes; k += THREADS) {
        float q = 0.f;
        for (uint32_t a = 0; a < teachers; a++) {
            const uint64_t of = uint64_t(a) * images + image;
            if (a != view) q += expf((t[of * classes + k] - centre[k]) * of_teacher - lse_t[of]);
        }
        const float log_p = s[k] * sharpness - own;
        loss -= static_cast<double>(q) * log_p;
        ds[k] = from_f32<bf16>(scale * (views * expf(log_p) - q));
    }
    loss = block_sum_f64<WARPS>(loss);
    if (threadIdx.x == 0) losses[row] = loss;
}

/// A thread per class.
extern "C" __global__ void __launch_bounds__(THREADS)
    distill_centre_f32(float *centre, const float *t, float keep, uint32_t rows, uint32_t classes) {
    const uint32_t k = blockIdx.x * THREADS + threadIdx.x;
    if (k >= classes) return;
    double sum = 0.0;
#pragma unroll 4
    for (uint32_t row = 0; row < rows; row++) sum += t[uint64_t(row) * classes + k];
    centre[k] = centre[k] * keep + (1.f - keep) * static_cast<float>(sum / rows);
}

EXPORT(THREADS, THREADS)
