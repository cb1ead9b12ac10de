// What the Hopper kernels of attention, forward and backward, share: tiles of 64 tokens of one head as TMA writes them
// and wgmma reads them, and the block's warps in their roles.
#pragma once
#include "reduce.cuh"
#include "sm90.cuh"
#include "tile.cuh"

constexpr int TILE_ROWS = 64;
constexpr int CONSUMERS = 2;                          // warpgroups that compute
constexpr int THREADS = 128 * (1 + CONSUMERS);        // and one whose warps load, store and prepare
constexpr int CONSUMER_WARPS = 4 * CONSUMERS;
constexpr int PRODUCER_REGISTERS = 56, CONSUMER_REGISTERS = 224;  // of 168 each at launch

/// 64 tokens of DIM values: rows of 128 or 64 bytes, swizzled over as many. Token, head and image are picked by
/// coordinates (0, part · heads + head, token, image) of qkv, (0, head, token, image) of out.
template <int DIM> struct HeadTile {
    static constexpr int ROW_BYTES = 2 * DIM, BYTES = TILE_ROWS * ROW_BYTES;

    /// Descriptor of an operand that begins at a row (a multiple of 8): K-major, or MN-major with all DIM as one row's
    /// m or n.
    static DEVICE uint64_t operand(uint32_t address) {
        return wgmma_descriptor(address, 16, 8 * ROW_BYTES, DIM == 64 ? SWIZZLE_128 : SWIZZLE_64);
    }
};

/// Where one is in a ring of stages: slot, and the parity of the round, which flips when the ring is through.
struct Position {
    int slot = 0;
    uint32_t parity = 0;

    DEVICE void next(int stages) {
        if (++slot == stages) slot = 0, parity ^= 1;
    }
};

/// Keeps a wait that follows behind what x depends on. ptxas moves waits for wgmma up as far as the last access to
/// memory, above exponentials that should be computed meanwhile; so x is stored where nobody reads it.
DEVICE void hold_waits(uint32_t word, float x) { store_shared(word, __float_as_uint(x)); }

/// One arrival for a warp, after all its lanes' accesses.
DEVICE void warp_arrive(uint32_t barrier) {
    __syncwarp();
    if (lane_id() == 0) mbarrier_arrive(barrier);
}

/// The A operands of steps of 16 columns from accumulators, rounded to T.
template <int COLUMNS, typename T = bf16>
DEVICE void as_operands(uint32_t (&a)[COLUMNS / 16][4], const float (&c)[COLUMNS / 2]) {
#pragma unroll
    for (int step = 0; step < COLUMNS / 16; step++) {
#pragma unroll
        for (int i = 0; i < 4; i++) a[step][i] = pack<T>(c[8 * step + 2 * i], c[8 * step + 2 * i + 1]);
    }
}

/// Writes a warp's 16 rows of operands to rows `row..` of a tile of WIDTH columns.
template <int WIDTH, int STEPS>
DEVICE void write_operands(uint32_t tile, int row, const uint32_t (&a)[STEPS][4], int lane) {
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const uint32_t at = (tile + Tile<WIDTH>::offset(row + (lane & 15), lane >> 4)) ^ (step << 5);
        stmatrix_x4(at, a[step][0], a[step][1], a[step][2], a[step][3]);
    }
}

/// Writes a warp's 16 × DIM accumulators, times `low` for rows g and `high` for rows g + 8, as bf16 to rows `row..` of
/// a head's tile.
template <int DIM>
DEVICE void write_accumulators(uint32_t tile, int row, float (&c)[DIM / 2], float low, float high, int lane) {
#pragma unroll
    for (int i = 0; i < DIM / 2; i++) c[i] *= i & 2 ? high : low;
    uint32_t a[DIM / 16][4];
    as_operands<DIM>(a, c);
    write_operands<DIM>(tile, row, a, lane);
}
