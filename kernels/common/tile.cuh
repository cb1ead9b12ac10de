// Tiles of bf16 or f16 in shared memory for mma.m16n8k16: rows whose 16-byte pieces are placed so that the eight rows
// of an 8×8 matrix lie in different banks. Rows of 32 and 64 values are permuted (the pattern of TMA's 64- and 128-byte
// swizzles), others are padded to an odd number of pieces.
#pragma once
#include "mma.cuh"

template <int WIDTH, typename T = bf16> struct Tile {
    static_assert(WIDTH % 8 == 0, "rows of whole 16-byte pieces");
    static constexpr bool SWIZZLED = WIDTH == 32 || WIDTH == 64;
    static constexpr int PIECES = WIDTH / 8;      // 16-byte pieces of a row
    static constexpr int ROW_BYTES = SWIZZLED ? WIDTH * 2 : (PIECES | 1) * 16;
    static constexpr int STEPS = WIDTH / 16;      // steps of 16 along a row
    static constexpr bool TAIL = WIDTH % 16 != 0;  // and 8 values more

    /// Bytes from the tile's start to a piece.
    static DEVICE int offset(int row, int piece) {
        if constexpr (SWIZZLED) {
            const int swizzle = WIDTH == 64 ? row & 7 : (row >> 1) & 3;
            return row * ROW_BYTES + ((piece ^ swizzle) << 4);
        } else {
            return row * ROW_BYTES + (piece << 4);
        }
    }

    /// Starts copying rows `first..first + count` (of `source`, `stride` values apart) by the `threads` threads of
    /// which this is number `thread`; rows at and past `end`, and of each row what follows its first `pieces`, become
    /// zeros. Completion is cp.async's.
    static DEVICE void copy_rows(uint32_t tile, const T *source, int stride, int first, int count, int end, int thread,
                                 int threads, int pieces = PIECES) {
        for (int i = thread; i < count * PIECES; i += threads) {
            const int row = i / PIECES, piece = i % PIECES;
            const bool inside = first + row < end && piece < pieces;
            const T *from = inside ? source + size_t(first + row) * stride + piece * 8 : source;
            cp_async<16>(tile + offset(row, piece), from, inside ? 16 : 0);
        }
    }

    // Below, step s is at the pieces 2s and 2s + 1. Of swizzled rows that is the address of step 0 with s xored in, as
    // tiles start at multiples of 128 bytes.
    static DEVICE uint32_t at_step(uint32_t address, int step) {
        return SWIZZLED ? address ^ (step << 5) : address + (step << 5);
    }

    /// A fragments of rows `row..row + 16` (a multiple of 16), columns `step·16..`.
    static DEVICE void load_a(uint32_t (&a)[4], uint32_t tile, int row, int step, int lane) {
        ldmatrix_x4(a, at_step(tile + offset(row + (lane & 15), lane >> 4), step));
    }

    /// B fragments of the transposed tile: the 16 rows from `row` are the columns n, `step` counts 16s of k along a
    /// row. b[0], b[1] belong to the first 8 columns, b[2], b[3] to the next.
    static DEVICE void load_b_transposed(uint32_t (&b)[4], uint32_t tile, int row, int step, int lane) {
        ldmatrix_x4(b, at_step(tile + offset(row + (lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1), step));
    }

    /// B fragments of the tile as it lies: the 16 rows from `row` are k, `step` counts 16s of columns n; b as above.
    static DEVICE void load_b(uint32_t (&b)[4], uint32_t tile, int row, int step, int lane) {
        ldmatrix_x4_trans(b, at_step(tile + offset(row + (lane & 15), lane >> 4), step));
    }

    // The last 8 columns of a row with a tail, 16 rows from `row`: what m16n8k8 wants of A, of B transposed (one word
    // for each 8 rows), and what m16n8k16 wants of B as it lies.
    static DEVICE void load_tail(uint32_t (&r)[2], uint32_t tile, int row, int lane) {
        ldmatrix_x2(r, tile + offset(row + (lane & 15), PIECES - 1));
    }
    static DEVICE void load_b_tail(uint32_t (&b)[2], uint32_t tile, int row, int lane) {
        ldmatrix_x2_trans(b, tile + offset(row + (lane & 15), PIECES - 1));
    }

    /// Writes a warp's 16 × WIDTH accumulators, times `low` for rows g and `high` for rows g + 8, to rows `0..16` as T.
    static DEVICE void store_accumulators(unsigned char *tile, const float (&c)[WIDTH / 8][4], float low, float high,
                                          int lane) {
        const int g = lane >> 2, within = (lane & 3) * 4;
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++) {
            *reinterpret_cast<uint32_t *>(tile + offset(g, j) + within) = pack<T>(c[j][0] * low, c[j][1] * low);
            *reinterpret_cast<uint32_t *>(tile + offset(g + 8, j) + within) = pack<T>(c[j][2] * high, c[j][3] * high);
        }
    }

    /// A warp copies the first `pieces` of rows `0..count` of the tile to `target`, rows `stride` values apart.
    static DEVICE void write_rows(T *target, int stride, const unsigned char *tile, int count, int lane,
                                  int pieces = PIECES) {
        for (int i = lane; i < count * PIECES; i += 32) {
            const int row = i / PIECES, piece = i % PIECES;
            if (piece < pieces) {
                const uint4 words = *reinterpret_cast<const uint4 *>(tile + offset(row, piece));
                *reinterpret_cast<uint4 *>(target + size_t(row) * stride + piece * 8) = words;
            }
        }
    }
};
