// Products of f32 rows on the bf16 tensor cores: every value split as v = hi + lo into two bf16 (what is left is below
// 2^-17 of it), three products hi·hi + hi·lo + lo·hi with f32 accumulators.
//
// Operands: [rows][⌈d/32⌉][hi 32 | lo 32] bf16, one 128-byte line per row and piece of 32 values, zeros behind the last
// value.
#pragma once
#include "mma.cuh"
#include "reduce.cuh"

constexpr int PIECE = 32;
constexpr int LINE = 128;
constexpr int CHUNKS = LINE / 16;

/// Splits 8 values into the chunk of their upper halves and, 4 chunks behind it, that of the lower.
DEVICE void store_split(uint4 *chunk, float (&v)[8]) {
    const uint4 high = pack<bf16>(v);
    float rounded[8];
    unpack<bf16>(high, rounded);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] -= rounded[i];
    chunk[0] = high;
    chunk[CHUNKS / 2] = pack<bf16>(v);
}
/// The values that `store_split` wrote: exact sums.
DEVICE void load_split(const uint4 *chunk, float (&v)[8]) {
    float low[8];
    unpack<bf16>(chunk[0], v);
    unpack<bf16>(chunk[CHUNKS / 2], low);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] += low[i];
}

/// Copies one piece of `ROWS` rows, from `row` on, into `tile` of shared memory; rows beyond `rows` become zero.
/// 16-byte chunks are swizzled by the row so that ldmatrix meets no bank twice. One commit group is left to the caller.
template <int ROWS, int THREADS>
DEVICE void copy_piece(uint32_t tile, const uint4 *operand, int row, int rows, int piece, int pieces) {
    const int chunk = threadIdx.x % CHUNKS, mine = threadIdx.x / CHUNKS;
    tile += mine * LINE + ((chunk ^ (mine % 8)) << 4);
#pragma unroll
    for (int i = 0; i < ROWS; i += THREADS / CHUNKS) {
        const int r = row + mine + i;
        const bool inside = r < rows;
        const uint4 *source = operand + static_cast<size_t>((inside ? r : 0) * pieces + piece) * CHUNKS + chunk;
        cp_async<16>(tile + i * LINE, source, inside ? 16 : 0);
    }
}

/// Where this lane's row of an A fragment (or of a transposed B fragment) begins: rows lane % 16, second chunk from
/// lane 16 on.
DEVICE uint32_t lane_row_a() {
    const int lane = lane_id();
    return (lane & 15) * LINE + (((lane >> 4) ^ (lane & 7)) << 4);
}
/// The same for two B fragments of 8 columns: rows lane % 8 and, from lane 16 on, 8 further.
DEVICE uint32_t lane_row_b() {
    const int lane = lane_id();
    return ((lane & 7) + (lane >> 4) * 8) * LINE + ((((lane >> 3) & 1) ^ (lane & 7)) << 4);
}

/// `s [16·MT, 8·NT] += x·yᵀ` over one piece. `x`, `y`: tiles plus `lane_row_a` / `lane_row_b`.
template <int MT, int NT> DEVICE void multiply_piece(float (&s)[MT][NT][4], uint32_t x, uint32_t y) {
#pragma unroll
    for (int k = 0; k < PIECE / 16; k++) {
        uint32_t high[MT][4], low[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++) {
            ldmatrix_x4(high[m], (x ^ k * 32) + m * 16 * LINE);
            ldmatrix_x4(low[m], (x ^ (64 + k * 32)) + m * 16 * LINE);
        }
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            uint32_t b_high[4], b_low[4];
            ldmatrix_x4(b_high, (y ^ k * 32) + n * 8 * LINE);
            ldmatrix_x4(b_low, (y ^ (64 + k * 32)) + n * 8 * LINE);
            // Products of one kind side by side: the accumulator of each is not needed by the next.
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma<bf16>(s[m][n], low[m], b_high[0], b_high[1]);
                mma<bf16>(s[m][n + 1], low[m], b_high[2], b_high[3]);
            }
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma<bf16>(s[m][n], high[m], b_low[0], b_low[1]);
                mma<bf16>(s[m][n + 1], high[m], b_low[2], b_low[3]);
            }
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma<bf16>(s[m][n], high[m], b_high[0], b_high[1]);
                mma<bf16>(s[m][n + 1], high[m], b_high[2], b_high[3]);
            }
        }
    }
}
