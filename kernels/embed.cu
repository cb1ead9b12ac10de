// Text embedding: y[n, t] = token[ids[n, t]] + position[t]; the gradients of both tables; and of each text one token.
//
//   y [N, T, D], token [vocabulary, D], position [T, D] f16 or bf16, the sum in f32; ids [N, T] u32, which the host has
//   checked.
// tokens    dtoken[id] += the sum over the places of id in the order that the host gives: `order` lists places by id,
//           `ends[i]` says where a run ends that begins at i, 0 for all other i. One block per run and 512 columns.
// positions dposition[t] += the sum over the texts in their order.
// pick      y[n] = x[places[n]], rows of x [N·T, D]; backward dx = dy there, 0 elsewhere.
// Aligned  D a multiple of 8; all but the numbers 16 bytes.
//
// FLOPs    1 per value.  Bytes: 4 per value (positions come from L2).  Bound: launch and latency; one thread per 8
//          values.
#include "common/types.cuh"

namespace {

constexpr uint32_t THREADS = 256;

template <typename T>
DEVICE void text(T *y, const uint32_t *ids, const T *token, const T *position, uint32_t texts, uint32_t tokens,
                 uint32_t d) {
    const uint32_t vectors = d / 8, i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= texts * tokens * vectors) return;
    const uint32_t row = i / vectors, c = 8 * (i % vectors);
    float a[8], b[8];
    load(token + uint64_t(ids[row]) * d + c, a);
    load(position + row % tokens * d + c, b);
#pragma unroll
    for (int j = 0; j < 8; j++) a[j] += b[j];
    store(y + uint64_t(row) * d + c, a);
}

/// Threads of a block that adds rows, each 8 columns.
constexpr uint32_t ROW_THREADS = 64;

}  // namespace

#define TEXT(T)                                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS) embed_text_##T(                                            \
        T *y, const uint32_t *ids, const T *token, const T *position, uint32_t texts, uint32_t tokens, uint32_t d) { \
        text(y, ids, token, position, texts, tokens, d);                                                             \
    }
TEXT(f16)
TEXT(bf16)

// Grid (places, columns).
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    embed_tokens_backward_bf16(float *dtoken, const bf16 *dy, const uint32_t *ids, const uint32_t *order,
                               const uint32_t *ends, uint32_t d) {
    const uint32_t begin = blockIdx.x, end = ends[begin], c = 8 * (blockIdx.y * ROW_THREADS + threadIdx.x);
    if (end == 0 || c >= d) return;
    float sum[8] = {}, a[8];
#pragma unroll 4
    for (uint32_t i = begin; i < end; i++) {
        load(dy + uint64_t(order[i]) * d + c, a);
#pragma unroll
        for (int j = 0; j < 8; j++) sum[j] += a[j];
    }
    float *to = dtoken + uint64_t(ids[order[begin]]) * d + c;
    load(to, a);
#pragma unroll
    for (int j = 0; j < 8; j++) a[j] += sum[j];
    store(to, a);
}

// Grid (tokens, columns).
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    embed_positions_backward_bf16(float *dposition, const bf16 *dy, uint32_t texts, uint32_t tokens, uint32_t d) {
    const uint32_t t = blockIdx.x, c = 8 * (blockIdx.y * ROW_THREADS + threadIdx.x);
    if (c >= d) return;
    float sum[8] = {}, a[8];
#pragma unroll 4
    for (uint32_t n = 0; n < texts; n++) {
        load(dy + (uint64_t(n) * tokens + t) * d + c, a);
#pragma unroll
        for (int j = 0; j < 8; j++) sum[j] += a[j];
    }
    float *to = dposition + uint64_t(t) * d + c;
    load(to, a);
#pragma unroll
    for (int j = 0; j < 8; j++) a[j] += sum[j];
    store(to, a);
}

// Grid (texts, columns).
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    embed_pick_bf16(bf16 *y, const bf16 *x, const uint32_t *places, uint32_t d) {
    const uint32_t n = blockIdx.x, c = 8 * (blockIdx.y * ROW_THREADS + threadIdx.x);
    if (c >= d) return;
    *reinterpret_cast<uint4 *>(y + uint64_t(n) * d + c) =
        *reinterpret_cast<const uint4 *>(x + uint64_t(places[n]) * d + c);
}

// Grid (texts·tokens, columns).
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    embed_pick_backward_bf16(bf16 *dx, const bf16 *dy, const uint32_t *places, uint32_t tokens, uint32_t d) {
    const uint32_t row = blockIdx.x, n = row / tokens, c = 8 * (blockIdx.y * ROW_THREADS + threadIdx.x);
    if (c >= d) return;
    const uint4 value =
        places[n] == row ? *reinterpret_cast<const uint4 *>(dy + uint64_t(n) * d + c) : make_uint4(0, 0, 0, 0);
    *reinterpret_cast<uint4 *>(dx + uint64_t(row) * d + c) = value;
}

EXPORT(THREADS, THREADS)
EXPORT(ROW_THREADS, ROW_THREADS)
