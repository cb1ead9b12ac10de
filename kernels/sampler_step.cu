// One step of a sampler, fused: guidance, multistep update, noise, and the network's next input.
//
//   e  = u + w·(c − u), or c without a second branch
//   d  = within ±limit: α·x + β·e
//   x' = a·x + b·e + f·d + Σ_k g_k·h_k + s·z
//   h_keep = d;  y = T(r·x')
//
//   x [N, V] f32 in place, V = h·w·4 values of one image, NHWC; eps [N or 2N, V] f32, the rows with the caption first;
//   history [slots, N, V]
//   f32; input [N, V] f16 or bf16. Coefficients are row step[0] of `table` [calls, 16] f32, `Row` below, so that one
//   captured graph makes
//   every step; sampler_next_u32 counts on behind it. What has coefficient 0 is not read. z is the stream of (seed,
//   caption, image, step):
//   `keys` [N, 4] holds (key, caption, image), a thread's four values are one Philox block.
//
// A thread takes four values of one image. Every operation is rounded on its own, in the CPU's order: without noise the
// bits are the CPU's.
//
// Aligned  x, eps, history 16 bytes, input 8; V a multiple of 4.
// FLOPs    9 per value, 2 per slot; noise about 60 per value, in f64 (the logarithm needs more than f32 near 1).
// Bytes    18 per value with both branches (DDIM), up to 34 (PNDM: 3 slots read, 1 written). Bound: memory; at batch 1,
//          the launch.
#include "common/philox.cuh"
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int SLOTS = 3;
/// Floats per row of the table; `row` of src/ops/sampler_step/cuda.rs.
constexpr int ROW = 16;
constexpr uint32_t NOWHERE = 0xffffffffu;

struct Row {
    float d_x, d_e, limit, x, e, now, kept[SLOTS], noise, next, guidance;
    /// Slot that d is put into, or NOWHERE.
    uint32_t keep;

    DEVICE explicit Row(const float *row) {
        float a[4], b[4], c[4];
        load(row, a);
        load(row + 4, b);
        load(row + 8, c);
        d_x = a[0], d_e = a[1], limit = a[2], x = a[3];
        e = b[0], now = b[1], kept[0] = b[2], kept[1] = b[3];
        kept[2] = c[0], noise = c[1], next = c[2], guidance = c[3];
        keep = __float_as_uint(row[12]);
    }
};

/// y += c·x, rounded twice.
DEVICE void add(float (&y)[4], float c, const float (&x)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) y[i] = __fadd_rn(y[i], __fmul_rn(c, x[i]));
}

/// Grid (quads of one image, images).
template <typename T>
DEVICE void advance(float *x, T *input, float *history, const float *eps, const float *table, const uint32_t *step,
                    const uint32_t *keys, uint32_t values, uint32_t guided) {
    const uint32_t quad = blockIdx.x * THREADS + threadIdx.x;
    if (4 * quad >= values) return;
    const uint32_t call = *step;
    const Row row(table + uint64_t(call) * ROW);
    const uint64_t all = uint64_t(gridDim.y) * values, i = uint64_t(blockIdx.y) * values + 4 * quad;
    float old[4], e[4], d[4], y[4];
    load(x + i, old);
    load(eps + i, e);
    if (guided != 0) {
        float u[4];
        load(eps + all + i, u);
#pragma unroll
        for (int j = 0; j < 4; j++) e[j] = __fadd_rn(u[j], __fmul_rn(row.guidance, __fsub_rn(e[j], u[j])));
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        y[j] = __fadd_rn(__fmul_rn(row.x, old[j]), __fmul_rn(row.e, e[j]));
        d[j] = __fadd_rn(__fmul_rn(row.d_x, old[j]), __fmul_rn(row.d_e, e[j]));
        // Not fmin and fmax: they would make a bound of what is no number.
        if (d[j] > row.limit) d[j] = row.limit;
        if (d[j] < -row.limit) d[j] = -row.limit;
    }
    if (row.now != 0.f) add(y, row.now, d);
#pragma unroll
    for (int k = 0; k < SLOTS; k++) {
        if (row.kept[k] != 0.f) {
            float h[4];
            load(history + k * all + i, h);
            add(y, row.kept[k], h);
        }
    }
    if (row.keep != NOWHERE) store(history + row.keep * all + i, d);
    if (row.noise != 0.f) {
        const uint4 key = reinterpret_cast<const uint4 *>(keys)[blockIdx.y];
        const float4 z = philox_normal(quad, make_uint3(key.z, key.w, call), make_uint2(key.x, key.y));
        const float four[4] = {z.x, z.y, z.z, z.w};
        add(y, row.noise, four);
    }
    store(x + i, y);
#pragma unroll
    for (int j = 0; j < 4; j++) y[j] = __fmul_rn(row.next, y[j]);
    store(input + i, y);
}

/// From unit noise to the first latent and input: x' = initial·x, input = T(first·x').
template <typename T> DEVICE void start(float *x, T *input, uint64_t len, float initial, float first) {
    const uint64_t i = 4 * (uint64_t(blockIdx.x) * THREADS + threadIdx.x);
    if (i >= len) return;
    float y[4];
    load(x + i, y);
#pragma unroll
    for (int j = 0; j < 4; j++) y[j] = __fmul_rn(initial, y[j]);
    store(x + i, y);
#pragma unroll
    for (int j = 0; j < 4; j++) y[j] = __fmul_rn(first, y[j]);
    store(input + i, y);
}

}  // namespace

#define STEP(T)                                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        sampler_step_##T(float *x, T *input, float *OR_NULL history, const float *eps, const float *table,             \
                         const uint32_t *step,                                                                         \
                         const uint32_t *OR_NULL keys, uint32_t values, uint32_t guided) {                             \
        advance<T>(x, input, history, eps, table, step, keys, values, guided);                                         \
    }
STEP(f16)
STEP(bf16)

#define START(T)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        sampler_start_##T(float *x, T *input, uint64_t len, float initial, float first) {                              \
        start<T>(x, input, len, initial, first);                                                                       \
    }
START(f16)
START(bf16)

extern "C" __global__ void sampler_next_u32(uint32_t *step) { *step += 1; }

EXPORT(THREADS, THREADS)
EXPORT(ROW, ROW)
