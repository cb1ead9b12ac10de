// Convolutions by a kernel of any height, width, stride and border of zeros, with a bias and the rectifier behind it,
// of maps of f32 that are kept as two bf16 halves; and the first of a network, over pictures in f32.
//
//   forward   y [N, H', W', O] = max(0, bias + Σ w·x): columns of 32·`first` on of maps whose pixels have `line` pieces
//   pixels    of pictures x [N, H, W, C] in f32 what lies under the kernel, (ky, kx, c) of at most 32 values: a row of
//             one piece for every output, whose product with the weights is the convolution
//
// Maps are [pixels][⌈C/32⌉][hi 32 | lo 32], weights [O][taps][⌈C/32⌉][hi 32 | lo 32], (ky, kx) in reading order; zeros
// behind the last channel, in what is written too.
//
// Implicit GEMM: a block has 128 outputs' pixels by 64 or 96 channels; for every tap and piece of 32 channels it copies
// the shifted pixels, or zeros where they lie outside, and the weights, three stages deep. Products of halves as in
// split_product.cuh: of f32 values the result is off by about 2^-17 of the products' sizes.
//
// FLOPs    3·2·N·H'·W'·taps·C·O on bf16 matrix units, C rounded up to 32 and O to 64 or 96.
// Bytes    4 per value of x, y and the weights, once; 16 bytes aligned.
// Bound    mma.sync; the first convolutions of a network, of few channels, memory.
#include "common/split_product.cuh"

extern __shared__ __align__(1024) unsigned char shared[];

namespace {

constexpr int ROWS = 128;
constexpr int THREADS = 128;
constexpr int STAGES = 3;

/// Grid (tiles of rows, tiles of output channels).
template <int COLUMNS>
DEVICE void forward(uint32_t *y, const uint4 *x, const uint4 *w, const float *bias, int rows, int outputs, int height,
                    int width, int pieces, int out_height, int out_width, int kernel_height, int kernel_width,
                    int stride, int top, int left, int first, int line) {
    constexpr int STAGE = (ROWS + COLUMNS) * LINE;
    constexpr int APART = THREADS / CHUNKS, OWN = ROWS / APART;
    const uint32_t stages = shared_address(shared);
    const int row = blockIdx.x * ROWS, column = blockIdx.y * COLUMNS;
    const int chunk = threadIdx.x % CHUNKS, mine = threadIdx.x / CHUNKS;

    // The pixels under the first tap, and where they begin; of rows behind the last always outside.
    int above[OWN], beside[OWN], corner[OWN];
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        const int r = row + mine + i * APART;
        const int image = r / (out_height * out_width), pixel = r % (out_height * out_width);
        above[i] = r < rows ? pixel / out_width * stride - top : -(1 << 20);
        beside[i] = pixel % out_width * stride - left;
        corner[i] = (image * height + above[i]) * width + beside[i];
    }
    const int steps = kernel_height * kernel_width * pieces;
    const uint32_t lane_tile = stages + mine * LINE + ((chunk ^ (mine % 8)) << 4);
    int ky = 0, kx = 0, piece = 0, fetched = 0;
    auto fetch = [&]() {
        if (fetched < steps) {
            const uint32_t stage = fetched % STAGES * STAGE;
            const int shift = ky * width + kx;
#pragma unroll
            for (int i = 0; i < OWN; i++) {
                const bool inside = static_cast<uint32_t>(above[i] + ky) < static_cast<uint32_t>(height) &&
                                    static_cast<uint32_t>(beside[i] + kx) < static_cast<uint32_t>(width);
                const uint4 *source =
                    x + (static_cast<size_t>(inside ? corner[i] + shift : 0) * pieces + piece) * CHUNKS + chunk;
                cp_async<16>(lane_tile + stage + i * APART * LINE, source, inside ? 16 : 0);
            }
            copy_piece<COLUMNS, THREADS>(stages + stage + ROWS * LINE, w, column, outputs, fetched, steps);
            if (++piece == pieces) piece = 0, kx++;
            if (kx == kernel_width) kx = 0, ky++;
        }
        fetched++;
        cp_async_commit();
    };

    float sum[2][COLUMNS / 8][4] = {};
    const uint32_t lane_x = stages + warp_id() * 32 * LINE + lane_row_a();
    const uint32_t lane_w = stages + ROWS * LINE + lane_row_b();
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) fetch();
    for (int step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        fetch();
        const uint32_t stage = step % STAGES * STAGE;
        multiply_piece(sum, lane_x + stage, lane_w + stage);
    }

    const int written = round_up(outputs, PIECE);
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++) {
        const int c = column + n * 8 + lane_id() % 4 * 2;
        if (c >= written) continue;
        const float bias_low = c < outputs ? bias[c] : 0.0f, bias_high = c + 1 < outputs ? bias[c + 1] : 0.0f;
#pragma unroll
        for (int half = 0; half < 4; half++) {
            const int r = row + warp_id() * 32 + half * 8 + lane_id() / 4;
            if (r >= rows) continue;
            // What is no number stays none.
            const float low = sum[half / 2][n][half % 2 * 2] + bias_low;
            const float high = sum[half / 2][n][half % 2 * 2 + 1] + bias_high;
            const float2 v = make_float2(low < 0.0f ? 0.0f : low, high < 0.0f ? 0.0f : high);
            uint32_t *to = y + (static_cast<size_t>(r) * line + first + c / PIECE) * PIECE + c % PIECE / 2;
            const uint32_t word = pack<bf16>(v.x, v.y);
            const float2 rounded = unpack<bf16>(word);
            to[0] = word;
            to[PIECE / 2] = pack<bf16>(v.x - rounded.x, v.y - rounded.y);
        }
    }
}

}  // namespace

EXPORT(TILE_ROWS, ROWS)
EXPORT(TILE_THREADS, THREADS)
/// Bytes of shared memory for one row of a tile.
EXPORT(ROW_SHARED, STAGES * LINE)

#define FORWARD(COLUMNS)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) conv2d_forward_n##COLUMNS(                                \
        uint32_t *y, const uint4 *x, const uint4 *w, const float *bias, int rows, int outputs, int height, int width,  \
        int pieces, int out_height, int out_width, int kernel_height, int kernel_width, int stride, int top, int left, \
        int first, int line) {                                                                                         \
        forward<COLUMNS>(y, x, w, bias, rows, outputs, height, width, pieces, out_height, out_width, kernel_height,    \
                         kernel_width, stride, top, left, first, line);                                                \
    }
FORWARD(64)
FORWARD(96)

/// One thread per 8 values of a row.
extern "C" __global__ void __launch_bounds__(256)
    conv2d_pixels(uint4 *y, const float *x, int rows, int height, int width, int channels, int out_height,
                  int out_width, int kernel_height, int kernel_width, int stride, int top, int left) {
    const int group = blockIdx.x * 256 + threadIdx.x;
    const int row = group / 4, quarter = group % 4;
    if (row >= rows) return;
    const int image = row / (out_height * out_width), pixel = row % (out_height * out_width);
    const int above = pixel / out_width * stride - top, beside = pixel % out_width * stride - left;
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int at = quarter * 8 + i, tap = at / channels;
        const int r = above + tap / kernel_width, c = beside + tap % kernel_width;
        const bool inside = tap < kernel_height * kernel_width && 0 <= r && r < height && 0 <= c && c < width;
        v[i] = inside ? x[((static_cast<size_t>(image) * height + r) * width + c) * channels + at % channels] : 0.0f;
    }
    store_split(y + static_cast<size_t>(row) * CHUNKS + quarter, v);
}
