// Images to tokens around a matrix product: uint8 pixels to rows of normalised patches, and embedded patches to tokens.
//
//   unfold   patches [N*P, 3*p*p] bf16 from images [N, H, W, 3] u8: value (c, row, column) of a patch is v*scale[c] +
//            shift[c], i.e. (v/255 - mean)/std with scale = 1/(255*std), shift = -mean/std. For ImageNet's constants
//            the bf16 is the CPU's for all 256 values of each channel.
//   tokens   [N, T, D] bf16: of the L leading tokens (class token, registers) token t is cls[t] + pos[t], behind them
//            it is embedded[t-L] + pos[t] + bias; cls [L, D], pos [T, D], bias f32.
//   gather   the gradient of the tokens without the leading ones, [N*P, D] bf16, and its sums over 32 images each, [K,
//            T, D] f32;
//   positions  dpos += sum over K, dcls += that of the leading tokens; the sums stay in the first of the K for the bias
//              (`reduce_partials_f32`).
//
// Aligned  `x8`: p or D a multiple of 8, images 8 bytes (so rows of pixels, too), bf16 and f32 pointers 16 bytes; `x1`:
//          nothing.
// Bytes    unfold: 1 read and 2 written per value; tokens: 4 per value; gather: 4 per value, plus 8/32 for the sums.
// Bound    memory. A thread reads 8 pixels (24 bytes) and writes 16 bytes to each of the three channels; position and
//          bias are read once for 8 images.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;
/// Images per thread of `tokens`, and of `gather`.
constexpr uint32_t TOKEN_IMAGES = 8;
constexpr uint32_t GATHER_IMAGES = 32;
/// Images that a thread reads before it writes any.
constexpr uint32_t BATCH = 4;

struct Grid {
    uint32_t height, width, patch;

    DEVICE uint32_t across() const { return width / patch; }
    DEVICE uint32_t patches() const { return height / patch * across(); }
};

template <int N>
DEVICE void tokens(bf16 *out, const bf16 *embedded, const float *cls, const float *pos, const float *bias, uint32_t n,
                   uint32_t count, uint32_t leading, uint32_t d) {
    const uint32_t at = (blockIdx.x * THREADS + threadIdx.x) * N, t = at / d, c = at % d;
    if (at >= count * d) return;
    const uint32_t first = blockIdx.y * TOKEN_IMAGES;
    float position[N], other[N];
    load(pos + at, position);
    load(t < leading ? cls + at : bias + c, other);
#pragma unroll
    for (uint32_t i = 0; i < TOKEN_IMAGES; i += BATCH) {
        float x[BATCH][N];
#pragma unroll
        for (uint32_t b = 0; b < BATCH; b++) {
            const uint64_t image = first + i + b;
#pragma unroll
            for (int j = 0; j < N; j++) x[b][j] = 0.f;
            if (t >= leading && image < n) load(embedded + image * (count - leading) * d + at - leading * d, x[b]);
        }
#pragma unroll
        for (uint32_t b = 0; b < BATCH; b++) {
            const uint64_t image = first + i + b;
#pragma unroll
            for (int j = 0; j < N; j++) x[b][j] = x[b][j] + position[j] + other[j];
            if (image < n) store(out + image * count * d + at, x[b]);
        }
    }
}

template <int N>
DEVICE void gather(bf16 *dembedded, float *partials, const bf16 *dtokens, uint32_t n, uint32_t count, uint32_t leading,
                   uint32_t d) {
    const uint32_t at = (blockIdx.x * THREADS + threadIdx.x) * N;
    if (at >= count * d) return;
    const uint32_t first = blockIdx.y * GATHER_IMAGES, end = min(first + GATHER_IMAGES, n);
    float sum[N] = {};
    for (uint64_t image = first; image < end; image += BATCH) {
        float x[BATCH][N];
#pragma unroll
        for (uint32_t b = 0; b < BATCH; b++) {
#pragma unroll
            for (int j = 0; j < N; j++) x[b][j] = 0.f;
            if (image + b < end) load(dtokens + (image + b) * count * d + at, x[b]);
        }
#pragma unroll
        for (uint32_t b = 0; b < BATCH; b++) {
            if (at >= leading * d && image + b < end)
                store(dembedded + (image + b) * (count - leading) * d + at - leading * d, x[b]);
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] += x[b][j];
        }
    }
    store(partials + uint64_t(blockIdx.y) * count * d + at, sum);
}

}  // namespace

// One thread per 8 pixels of a row of a patch, in the order in which a channel is written. Grid (images, pieces of an
// image).
extern "C" __global__ void __launch_bounds__(THREADS)
    patch_embed_unfold_x8_bf16(bf16 *patches, const uint8_t *images, uint32_t height, uint32_t width,
                               uint32_t patch, float scale0, float scale1, float scale2, float shift0, float shift1,
                               float shift2) {
    const Grid grid = {height, width, patch};
    const uint32_t groups = patch / 8, per_patch = patch * groups, per_image = grid.patches() * per_patch;
    const uint64_t image = blockIdx.x;
    const uint32_t within = blockIdx.y * THREADS + threadIdx.x;
    if (within >= per_image) return;
    const uint32_t index = within / per_patch, group = within % per_patch;
    const uint32_t y = index / grid.across() * patch + group / groups;
    const uint32_t x = index % grid.across() * patch + group % groups * 8;
    const uint2 *from = reinterpret_cast<const uint2 *>(images + ((image * height + y) * width + x) * 3);
    const uint2 a = from[0], b = from[1], c = from[2];
    const uint32_t words[6] = {a.x, a.y, b.x, b.y, c.x, c.y};
    const float scale[3] = {scale0, scale1, scale2}, shift[3] = {shift0, shift1, shift2};
    const uint64_t vectors = patch * groups;
    uint4 *to = reinterpret_cast<uint4 *>(patches) + (image * grid.patches() + index) * 3 * vectors + group;
    uint4 rows[3];
#pragma unroll
    for (int channel = 0; channel < 3; channel++) {
        float values[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int byte = 3 * i + channel;
            values[i] = __fmaf_rn(float(words[byte / 4] >> (byte % 4 * 8) & 255), scale[channel], shift[channel]);
        }
        rows[channel] = pack<bf16>(values);
    }
#pragma unroll
    for (int channel = 0; channel < 3; channel++) to[channel * vectors] = rows[channel];
}

// One thread per value, in the order in which they are written. Grid (images, pieces of an image).
extern "C" __global__ void __launch_bounds__(THREADS)
    patch_embed_unfold_x1_bf16(bf16 *patches, const uint8_t *images, uint32_t height, uint32_t width,
                               uint32_t patch, float scale0, float scale1, float scale2, float shift0, float shift1,
                               float shift2) {
    const Grid grid = {height, width, patch};
    const uint32_t area = patch * patch, per_image = grid.patches() * 3 * area;
    const uint64_t image = blockIdx.x;
    const uint32_t within = blockIdx.y * THREADS + threadIdx.x;
    if (within >= per_image) return;
    const uint32_t index = within / (3 * area), channel = within / area % 3;
    const uint32_t y = index / grid.across() * patch + within % area / patch;
    const uint32_t x = index % grid.across() * patch + within % patch;
    const float value = images[((image * height + y) * width + x) * 3 + channel];
    const float scale = channel == 0 ? scale0 : channel == 1 ? scale1 : scale2;
    const float shift = channel == 0 ? shift0 : channel == 1 ? shift1 : shift2;
    patches[image * per_image + within] = from_f32<bf16>(__fmaf_rn(value, scale, shift));
}

#define KERNELS(NAME, N)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        patch_embed_tokens_##NAME(bf16 *out, const bf16 *embedded, const float *cls, const float *pos,                 \
                                  const float *bias, uint32_t n, uint32_t count, uint32_t leading, uint32_t d) {       \
        tokens<N>(out, embedded, cls, pos, bias, n, count, leading, d);                                                \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) patch_embed_gather_##NAME(                                   \
        bf16 *dembedded, float *partials, const bf16 *dtokens, uint32_t n, uint32_t count, uint32_t leading,           \
        uint32_t d) {                                                                                                  \
        gather<N>(dembedded, partials, dtokens, n, count, leading, d);                                                 \
    }
KERNELS(x8_bf16, 8)
KERNELS(x1_bf16, 1)

extern "C" __global__ void __launch_bounds__(THREADS)
    patch_embed_positions_f32(float *dpos, float *dcls, float *partials, uint32_t pieces, uint32_t count,
                              uint32_t leading, uint32_t d) {
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= count * d) return;
    float sum = 0.f;
#pragma unroll 8
    for (uint64_t k = 0; k < pieces; k++) sum += partials[k * count * d + at];
    partials[at] = sum;
    dpos[at] += sum;
    if (at < leading * d) dcls[at] += sum;
}

EXPORT(THREADS, THREADS)
EXPORT(TOKEN_IMAGES, TOKEN_IMAGES)
EXPORT(GATHER_IMAGES, GATHER_IMAGES)
