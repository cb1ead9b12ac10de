// Matrix products for training on any sm_80+ card: bf16 operands, f32 accumulators, the layer's elementwise work in the
// epilogue.
//
//   NT  y[M,N]  = x[M,K]·w[N,K]ᵀ      forward            bias; bias + GELU (pre-activation and activation stored); bias
//       + residual
//   NN  y[M,N]  = x[M,K]·w[K,N]       input gradient     plain; times GELU′(h)
//   TN  y[M,N] += x[K,M]ᵀ·w[K,N]      weight gradient    f32, also column sums of x (the bias gradient); K may be split
//       over blocks,
//                                                        whose partial sums `gemm_split_sum_f32` adds in order
//
// Any M, N, K ≥ 1 and any row strides. Rows that start at multiples of 16 bytes are copied by cp.async, others element
// by element (slow). Every output is one chain of additions over k in steps of 16, whatever the tile and the other
// rows: a row's bits depend on its own inputs and on the order of k alone. Both tile sizes cut K alike, so they agree
// to the bit.
//
// FLOPs 2·M·N·K (epilogues: about 20 per value of a GELU). Bytes: each operand once if a wave's tiles share them in the
// L2 cache, which the raster of tile groups sees to. Bound by the tensor cores from K ≈ 200 on; below by device memory.
//
// Tiles 128×128×32 (4 warps of 64×64) and 64×64×32 (4 warps of 32×32), 3 stages, XOR-swizzled shared memory without
// bank conflicts.
#include "common/gelu.cuh"
#include "common/mma.cuh"
#include "common/reduce.cuh"

namespace {

constexpr int BK = 32;
constexpr int STAGES = 3;
constexpr int THREADS = 128;
/// Rows of tiles that consecutive blocks share before moving on to the next columns.
constexpr int GROUP = 8;

enum class Layout { NT, NN, TN };
enum class Epilogue { BIAS, GELU, RESIDUAL, GELU_BACKWARD, ACCUMULATE };

/// A BK-deep slice of an operand in shared memory, `EXTENT` values along m or n. K-major tiles keep rows of 32 k (64
/// bytes), the others rows of EXTENT values; 16-byte chunks are permuted within 128 bytes so that the 8 rows an
/// ldmatrix reads lie in different banks.
template <bool K_MAJOR, int EXTENT> struct Tile {
    static constexpr int BYTES = EXTENT * BK * 2;
    static constexpr int CHUNKS = (K_MAJOR ? BK : EXTENT) / 8;

    static DEVICE uint32_t offset(int row, int chunk) {
        const int permuted = K_MAJOR ? chunk ^ ((row >> 1) & 3) : chunk ^ (row & 7);
        return row * (CHUNKS * 16) + permuted * 16;
    }

    /// A 16-byte piece of the slice: its place in shared memory, its source and how many of its 8 values lie inside the
    /// matrix.
    struct Piece {
        uint32_t destination;
        const bf16 *source;
        int valid;
    };
    static DEVICE Piece piece(int i, uint32_t tile, const bf16 *matrix, uint32_t stride, int mn, int extent, int k,
                              int depth) {
        const int first_row = K_MAJOR ? mn : k, rows = K_MAJOR ? extent : depth;
        const int first_column = K_MAJOR ? k : mn, columns = K_MAJOR ? depth : extent;
        const int number = threadIdx.x + i * THREADS, row = number / CHUNKS, chunk = number % CHUNKS;
        const int column = first_column + chunk * 8;
        const int valid = first_row + row < rows ? min(max(columns - column, 0), 8) : 0;
        return {tile + offset(row, chunk),
                matrix + (valid > 0 ? static_cast<size_t>(first_row + row) * stride + column : 0), valid};
    }

    /// Starts copying the slice at (`mn`, `k`) of a matrix with `extent` × `depth` values. Values outside become zero.
    static DEVICE void fetch(uint32_t tile, const bf16 *matrix, uint32_t stride, int mn, int extent, int k, int depth,
                             bool aligned) {
        constexpr int PIECES = BYTES / 16 / THREADS;
        if (aligned) {
#pragma unroll
            for (int i = 0; i < PIECES; i++) {
                const Piece at = piece(i, tile, matrix, stride, mn, extent, k, depth);
                cp_async<16>(at.destination, at.source, at.valid * 2);
            }
        } else {
#pragma unroll 1
            for (int i = 0; i < PIECES; i++) {
                const Piece at = piece(i, tile, matrix, stride, mn, extent, k, depth);
                uint32_t words[4] = {};
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    if (j < at.valid)
                        words[j / 2] |= static_cast<uint32_t>(__bfloat16_as_ushort(at.source[j])) << (j % 2 * 16);
                }
                store_shared(at.destination, make_uint4(words[0], words[1], words[2], words[3]));
            }
        }
    }

    /// A fragment of 16 (m) × 16 (k) from value `mn` and k step `step` of the slice.
    static DEVICE void fragment_a(uint32_t (&a)[4], uint32_t tile, int mn, int step) {
        const int matrix = lane_id() >> 3, line = lane_id() & 7;
        if constexpr (K_MAJOR) {
            ldmatrix_x4(a, tile + offset(mn + (matrix & 1) * 8 + line, step * 2 + (matrix >> 1)));
        } else {
            ldmatrix_x4_trans(a, tile + offset(step * 16 + (matrix >> 1) * 8 + line, mn / 8 + (matrix & 1)));
        }
    }

    /// Two fragments of 16 (k) × 8 (n): b[0], b[1] for columns n … n+7, b[2], b[3] for the next 8.
    static DEVICE void fragment_b(uint32_t (&b)[4], uint32_t tile, int mn, int step) {
        const int matrix = lane_id() >> 3, line = lane_id() & 7;
        if constexpr (K_MAJOR) {
            ldmatrix_x4(b, tile + offset(mn + (matrix >> 1) * 8 + line, step * 2 + (matrix & 1)));
        } else {
            ldmatrix_x4_trans(b, tile + offset(step * 16 + (matrix & 1) * 8 + line, mn / 8 + (matrix >> 1)));
        }
    }
};

DEVICE bool aligned_rows(const void *p, uint32_t stride, int bytes) {
    return (reinterpret_cast<uintptr_t>(p) & 15) == 0 && (static_cast<size_t>(stride) * bytes & 15) == 0;
}

/// Everything a block needs to know beside its operands.
struct Output {
    void *y;
    /// Residual (read), pre-activation (written by GELU, read by its backward), or the bias gradient.
    void *aux;
    const bf16 *bias;
    int m, n;
    uint32_t stride, aux_stride;
};

/// A warp's piece of shared memory for `WARP` rows of WARP bf16 on their way between fragments and memory: a fragment
/// alone would move half sectors. Rows are 16 bytes apart in the banks, so that neither side conflicts.
template <int WARP> struct Staging {
    static constexpr int PITCH = WARP * 2 + 16;
    static constexpr int BYTES = WARP * PITCH;
    static constexpr int CHUNKS = WARP / 8;

    /// Where the lane's accumulators 0 and 1 of fragment (i, j) lie; 2 and 3 lie 8 rows on.
    static DEVICE uint32_t place(uint32_t staging, int i, int j) {
        return staging + (i * 16 + (lane_id() >> 2)) * PITCH + j * 16 + (lane_id() & 3) * 4;
    }

    /// Rows of memory into the staging; zero outside.
    static DEVICE void load(uint32_t staging, const bf16 *x, uint32_t stride, int row0, int column0, int m, int n) {
        const bool aligned = aligned_rows(x, stride, 2);
#pragma unroll 1
        for (int piece = lane_id(); piece < WARP * CHUNKS; piece += 32) {
            const int line = piece / CHUNKS, chunk = piece % CHUNKS, row = row0 + line, column = column0 + chunk * 8;
            const int valid = row < m ? min(n - column, 8) : 0;
            const bf16 *source = x + static_cast<size_t>(row) * stride + column;
            uint32_t words[4] = {};
            if (aligned && valid == 8) {
                const uint4 all = *reinterpret_cast<const uint4 *>(source);
                words[0] = all.x, words[1] = all.y, words[2] = all.z, words[3] = all.w;
            } else {
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    if (e < valid)
                        words[e / 2] |= static_cast<uint32_t>(__bfloat16_as_ushort(source[e])) << (e % 2 * 16);
                }
            }
            store_shared(staging + line * PITCH + chunk * 16, make_uint4(words[0], words[1], words[2], words[3]));
        }
        __syncwarp();
    }

    /// The staged rows into memory.
    static DEVICE void store(uint32_t staging, bf16 *y, uint32_t stride, int row0, int column0, int m, int n) {
        __syncwarp();
        const bool aligned = aligned_rows(y, stride, 2);
#pragma unroll 4
        for (int piece = lane_id(); piece < WARP * CHUNKS; piece += 32) {
            const int line = piece / CHUNKS, chunk = piece % CHUNKS, row = row0 + line, column = column0 + chunk * 8;
            if (row >= m || column >= n) continue;
            const uint4 words = load_shared_x4(staging + line * PITCH + chunk * 16);
            bf16 *destination = y + static_cast<size_t>(row) * stride + column;
            if (aligned && column + 8 <= n) {
                *reinterpret_cast<uint4 *>(destination) = words;
            } else {
                const uint32_t w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    if (column + e < n)
                        destination[e] = __ushort_as_bfloat16(static_cast<uint16_t>(w[e / 2] >> (e % 2 * 16)));
                }
            }
        }
        __syncwarp();
    }
};

/// Adds two neighbouring f32 to a row, or stores them.
template <bool ADD>
DEVICE void put_pair(float *y, uint32_t stride, int row, int column, int m, int n, float a, float b) {
    if (row >= m || column >= n) return;
    y += static_cast<size_t>(row) * stride + column;
    if (column + 1 < n && (reinterpret_cast<uintptr_t>(y) & 7) == 0) {
        float2 pair = ADD ? *reinterpret_cast<const float2 *>(y) : make_float2(0.0f, 0.0f);
        *reinterpret_cast<float2 *>(y) = ADD ? make_float2(pair.x + a, pair.y + b) : make_float2(a, b);
    } else {
        y[0] = ADD ? y[0] + a : a;
        if (column + 1 < n) y[1] = ADD ? y[1] + b : b;
    }
}

/// One block's tile of the product. `k_first`, `k_blocks`: its share of K in units of BK.
template <Layout LAYOUT, Epilogue EPILOGUE, typename T, int TILE>
DEVICE void product(const bf16 *a, const bf16 *b, const Output &out, int k, uint32_t a_stride, uint32_t b_stride,
                    int k_first, int k_blocks, bool add) {
    constexpr int WARP = TILE / 2, MI = WARP / 16, NI = WARP / 8;
    using TileA = Tile<LAYOUT != Layout::TN, TILE>;
    using TileB = Tile<LAYOUT == Layout::NT, TILE>;
    constexpr int STAGE = TileA::BYTES + TileB::BYTES;
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t stages = shared_address(shared);
    const int m = out.m, n = out.n;

    // Blocks walk down GROUP rows of tiles before the next column of tiles: a wave touches about as many rows of a as
    // columns of b.
    const int tiles_m = ceil_div(m, TILE), tiles_n = ceil_div(n, TILE), block = blockIdx.x;
    const int group = block / (GROUP * tiles_n), within = block % (GROUP * tiles_n);
    const int height = min(tiles_m - group * GROUP, GROUP);
    const int m0 = (group * GROUP + within % height) * TILE, n0 = within / height * TILE;
    const int warp_m = (warp_id() >> 1) * WARP, warp_n = (warp_id() & 1) * WARP;

    const bool a_aligned = aligned_rows(a, a_stride, 2), b_aligned = aligned_rows(b, b_stride, 2);
    const auto fetch = [&](int block_k) {
        if (block_k < k_blocks) {
            const uint32_t stage = stages + block_k % STAGES * STAGE;
            const int depth = (k_first + block_k) * BK;
            TileA::fetch(stage, a, a_stride, m0, m, depth, k, a_aligned);
            TileB::fetch(stage + TileA::BYTES, b, b_stride, n0, n, depth, k, b_aligned);
        }
        cp_async_commit();
    };

    float acc[MI][NI][4] = {};
    // Column sums of x are its product with a matrix of ones; one warp column of the first column of tiles does it.
    constexpr bool SUMS = LAYOUT == Layout::TN;
    constexpr uint32_t ONES = 0x3f803f80u;
    float sums[SUMS ? MI : 1][4] = {};
    const bool summing = SUMS && out.aux != nullptr && n0 == 0 && warp_n == 0;

#pragma unroll 1
    for (int s = 0; s < STAGES - 1; s++) fetch(s);
    for (int block_k = 0; block_k < k_blocks; block_k++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        fetch(block_k + STAGES - 1);
        const uint32_t tile_a = stages + block_k % STAGES * STAGE, tile_b = tile_a + TileA::BYTES;
#pragma unroll
        for (int step = 0; step < BK / 16; step++) {
            uint32_t fa[MI][4], fb[NI / 2][4];
#pragma unroll
            for (int i = 0; i < MI; i++) TileA::fragment_a(fa[i], tile_a, warp_m + i * 16, step);
#pragma unroll
            for (int j = 0; j < NI / 2; j++) TileB::fragment_b(fb[j], tile_b, warp_n + j * 16, step);
#pragma unroll
            for (int i = 0; i < MI; i++) {
#pragma unroll
                for (int j = 0; j < NI; j++)
                    mma<bf16>(acc[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
            }
            if (SUMS && summing) {
#pragma unroll
                for (int i = 0; i < MI; i++) mma<bf16>(sums[SUMS ? i : 0], fa[i], ONES, ONES);
            }
        }
    }

    const int g = lane_id() >> 2, t = lane_id() & 3;
    const int row0 = m0 + warp_m, column0 = n0 + warp_n;
    if constexpr (EPILOGUE != Epilogue::GELU_BACKWARD && EPILOGUE != Epilogue::ACCUMULATE) {
        if (out.bias != nullptr) {
#pragma unroll
            for (int j = 0; j < NI; j++) {
                const int column = column0 + j * 8 + t * 2;
                const float left = column < n ? to_f32(out.bias[column]) : 0.0f;
                const float right = column + 1 < n ? to_f32(out.bias[column + 1]) : 0.0f;
#pragma unroll
                for (int i = 0; i < MI; i++) {
                    acc[i][j][0] += left, acc[i][j][1] += right;
                    acc[i][j][2] += left, acc[i][j][3] += right;
                }
            }
        }
    }
    if constexpr (sizeof(T) == 4) {
        float *y = static_cast<float *>(out.y);
#pragma unroll
        for (int i = 0; i < MI; i++) {
#pragma unroll
            for (int j = 0; j < NI; j++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int row = row0 + i * 16 + g + half * 8, column = column0 + j * 8 + t * 2;
                    const float left = acc[i][j][half * 2], right = acc[i][j][half * 2 + 1];
                    if (EPILOGUE == Epilogue::ACCUMULATE && add) {
                        put_pair<true>(y, out.stride, row, column, m, n, left, right);
                    } else {
                        put_pair<false>(y, out.stride, row, column, m, n, left, right);
                    }
                }
            }
            if (SUMS && summing && t == 0) {
                float *db = static_cast<float *>(out.aux) + row0 + i * 16 + g;
                const float low = sums[SUMS ? i : 0][0], high = sums[SUMS ? i : 0][2];
                if (row0 + i * 16 + g < m) db[0] = add ? db[0] + low : low;
                if (row0 + i * 16 + g + 8 < m) db[8] = add ? db[8] + high : high;
            }
        }
    } else {
        // All warps are done with the last stage before the output overwrites it; every copy has landed.
        cp_async_wait<0>();
        __syncthreads();
        using Rows = Staging<WARP>;
        static_assert(4 * Rows::BYTES <= STAGES * STAGE, "the output is staged where the operands were");
        const uint32_t staging = stages + warp_id() * Rows::BYTES;
        if constexpr (EPILOGUE == Epilogue::RESIDUAL || EPILOGUE == Epilogue::GELU_BACKWARD) {
            Rows::load(staging, static_cast<const bf16 *>(out.aux), out.aux_stride, row0, column0, m, n);
        }
        const auto stage = [&](auto &&finish) {
#pragma unroll
            for (int i = 0; i < MI; i++) {
#pragma unroll
                for (int j = 0; j < NI; j++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const uint32_t place = Rows::place(staging, i, j) + half * 8 * Rows::PITCH;
                        store_shared(place, finish(place, acc[i][j][half * 2], acc[i][j][half * 2 + 1]));
                    }
                }
            }
        };
        if constexpr (EPILOGUE == Epilogue::GELU) {
            stage([](uint32_t, float x, float y) { return pack<bf16>(x, y); });
            Rows::store(staging, static_cast<bf16 *>(out.aux), out.aux_stride, row0, column0, m, n);
            stage([](uint32_t, float x, float y) { return pack<bf16>(gelu(x), gelu(y)); });
        } else if constexpr (EPILOGUE == Epilogue::RESIDUAL) {
            stage([](uint32_t place, float x, float y) {
                const float2 old = unpack<bf16>(load_shared(place));
                return pack<bf16>(x + old.x, y + old.y);
            });
        } else if constexpr (EPILOGUE == Epilogue::GELU_BACKWARD) {
            stage([](uint32_t place, float x, float y) {
                const float2 h = unpack<bf16>(load_shared(place));
                return pack<bf16>(x * gelu_derivative(h.x), y * gelu_derivative(h.y));
            });
        } else {
            stage([](uint32_t, float x, float y) { return pack<bf16>(x, y); });
        }
        Rows::store(staging, static_cast<bf16 *>(out.y), out.stride, row0, column0, m, n);
    }
}

} // namespace

// a, b: operands as in the table above with strides between rows; y, aux with theirs; bias may be null.
#define GEMM(NAME, LAYOUT, EPILOGUE, T, TILE, BLOCKS)                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                  \
        NAME(const bf16 *a, const bf16 *b, T *y, bf16 *OR_NULL aux, const bf16 *OR_NULL bias, int m, int n, int k, \
             uint32_t a_stride, uint32_t b_stride, uint32_t y_stride, uint32_t aux_stride) {                       \
        const Output out{y, aux, bias, m, n, y_stride, aux_stride};                                                \
        product<Layout::LAYOUT, Epilogue::EPILOGUE, T, TILE>(a, b, out, k, a_stride, b_stride, 0, ceil_div(k, BK), \
                                                             false);                                               \
    }
#define GEMM_BOTH_TILES(NAME, SUFFIX, LAYOUT, EPILOGUE, T)                                                             \
    GEMM(NAME##_128_##SUFFIX, LAYOUT, EPILOGUE, T, 128, 2)                                                             \
    GEMM(NAME##_64_##SUFFIX, LAYOUT, EPILOGUE, T, 64, 5)

GEMM_BOTH_TILES(gemm_nt_bias, bf16, NT, BIAS, bf16)
GEMM_BOTH_TILES(gemm_nt_bias, f32, NT, BIAS, float)
GEMM_BOTH_TILES(gemm_nt_gelu, bf16, NT, GELU, bf16)
GEMM_BOTH_TILES(gemm_nt_residual, bf16, NT, RESIDUAL, bf16)
GEMM_BOTH_TILES(gemm_nn, bf16, NN, BIAS, bf16)
GEMM_BOTH_TILES(gemm_nn_gelu_backward, bf16, NN, GELU_BACKWARD, bf16)

// Block z of the grid takes `blocks_per_split` BK-deep pieces of K. One split: y += and sums += (sums may be null).
// Several: split z stores its share in piece z of `y` (m·n values each) and of `sums` (m each), for gemm_split_sum_f32.
#define GEMM_TN(TILE, BLOCKS)                                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                      \
        gemm_tn_##TILE##_f32(const bf16 *a, const bf16 *b, float *y, float *OR_NULL sums, int m, int n, int k,         \
                             uint32_t a_stride,                                                                        \
                             uint32_t b_stride, int blocks_per_split) {                                                \
        const int split = blockIdx.z, first = split * blocks_per_split, all = ceil_div(k, BK);                         \
        float *piece = y + static_cast<size_t>(split) * m * n;                                                         \
        float *sums_piece = sums == nullptr ? nullptr : sums + static_cast<size_t>(split) * m;                         \
        const Output out{piece, sums_piece, nullptr, m, n, static_cast<uint32_t>(n), 0};                               \
        product<Layout::TN, Epilogue::ACCUMULATE, float, TILE>(a, b, out, k, a_stride, b_stride, first,                \
                                                               min(all - first, blocks_per_split), gridDim.z == 1);    \
    }
GEMM_TN(128, 2)
GEMM_TN(64, 5)

/// y[i] += parts[0][i] + parts[1][i] + …, and the same for `sums` with its own parts; blocks 0 … ⌈count/1024⌉-1 do y,
/// the rest sums.
extern "C" __global__ void __launch_bounds__(256)
    gemm_split_sum_f32(float *y, const float *parts, uint64_t count, float *OR_NULL sums,
                       const float *sum_parts, uint32_t sum_count, int splits) {
    const uint64_t blocks = ceil_div(count, uint64_t{1024});
    const bool second = blockIdx.x >= blocks;
    float *const target = second ? sums : y;
    const float *const source = second ? sum_parts : parts;
    const uint64_t length = second ? sum_count : count;
    const uint64_t first = (blockIdx.x - (second ? blocks : 0)) * 1024 + threadIdx.x * 4;
    if (first >= length) return;
    const bool vector =
        ((reinterpret_cast<uintptr_t>(target) | reinterpret_cast<uintptr_t>(source)) & 15) == 0 && length % 4 == 0;
    if (vector) {
        float total[4] = {};
#pragma unroll 4
        for (int s = 0; s < splits; s++) {
            float part[4];
            load<4>(source + s * length + first, part);
#pragma unroll
            for (int j = 0; j < 4; j++) total[j] += part[j];
        }
        float old[4];
        load<4>(target + first, old);
#pragma unroll
        for (int j = 0; j < 4; j++) old[j] += total[j];
        store<4>(target + first, old);
    } else {
        for (uint64_t i = first; i < min(first + 4, length); i++) {
            float total = 0.0f;
            for (int s = 0; s < splits; s++) total += source[s * length + i];
            target[i] += total;
        }
    }
}

EXPORT(THREADS, THREADS)
EXPORT(DEPTH, BK)
EXPORT(STAGES, STAGES)
