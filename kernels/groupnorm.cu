// Group normalisation of NHWC images and SiLU, in three steps: statistics of channels, statistics of groups,
// application.
//
//   moments      x [N, P, C] T -> m [N, R, C, 2] f32: sum and sum of squares, per channel, over runs of 64 consecutive
//                pixels of an image (R = ceil(P/64), the last run may be shorter). The convolution's epilogue writes
//                the same numbers' equals.
//   scale_shift  m of one or two tensors whose channels lie side by side -> table [N, C, 2] f32: a = gamma*rstd, b =
//                beta - mean*a, where mean and biased variance are those of the channel's group; a group may hold
//                channels of both tensors.
//   apply        y [N, P, C] T = a*x + b, then y*sigmoid(y); x is one tensor or two side by side, so this is also where
//                skip connections join.
// T is f16 or bf16, arithmetic f32. A source of `rows` images repeats: image n reads image n % rows.
//
// Merging  A run's sums give its mean and its sum of squared deviations; over all runs of a group, mean = total sum /
//          count and M2 = the sum of (run's M2 + count*(run's mean - mean)^2), so a large mean cancels within 64 pixels
//          at most, never over the image.
// Order    a run: each of 8 threads adds every eighth pixel, then the eight in order. A group: each of 256 threads adds
//          a channel's every (256 / channels)-th run, then by butterfly and in order of the warps. Fixed by P, C and
//          the groups: the batch plays no part.
// Aligned  C a multiple of 8 (of each source), x and y 16 bytes, moments, tables, gamma and beta 16 bytes.
//
// FLOPs    per value: moments 3, apply 2 and with SiLU 8, of which 2 special-function results. scale_shift: 8 per pair
//          of moments.
// Bytes    per value: moments 2, apply 4; scale_shift 8 per pair, twice (the second time from L1/L2), and 8*N*C.
// Bound    moments and apply: memory (apply with SiLU: 2 of 16 special results per clock and SM are 0.53 of the time
//          that memory takes); a thread of moments has 8 loads of 16 bytes in flight, of apply 4. scale_shift: latency
//          of about 5 dependent steps.
#include "common/groupnorm.cuh"

namespace {

/// Block and grid as in `apply`.
template <typename T> DEVICE void moments(float *out, const T *x, uint32_t pixels, uint32_t channels) {
    // A thread's 16 sums in four pieces, so far apart that neither four lanes' writes nor the reads below meet a bank
    // twice.
    __shared__ __align__(16) float part[ROWS][4][4 * WIDEST + 8];
    const uint32_t vector = blockIdx.y * blockDim.x + threadIdx.x, vectors = channels / 8, row = threadIdx.y;
    const uint32_t run = blockIdx.x, end = min((run + 1) * RUN, pixels);
    float sums[8] = {}, squares[8] = {};
    if (vector < vectors) {
        uint4 words[PIXELS];
        load_pixels(x + uint64_t(blockIdx.z) * pixels * channels + 8 * vector, channels, run * RUN + row, end, words);
#pragma unroll
        for (uint32_t i = 0; i < PIXELS; i++) {
            float values[8];
            unpack<T>(words[i], values);
#pragma unroll
            for (int c = 0; c < 8; c++) {
                sums[c] += values[c];
                squares[c] = fmaf(values[c], values[c], squares[c]);
            }
        }
    }
    // As they lie in the result: sum and sum of squares of each channel side by side.
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float four[4] = {sums[2 * i], squares[2 * i], sums[2 * i + 1], squares[2 * i + 1]};
        store(&part[row][i][4 * threadIdx.x], four);
    }
    __syncthreads();
    const uint64_t here = (uint64_t(blockIdx.z) * gridDim.x + run) * channels * 2;
    const uint32_t begin = 16 * blockIdx.y * blockDim.x, count = min(16 * blockDim.x, 2 * channels - begin);
    // Two at a time: a block has half as many threads as values.
    const uint32_t i = 2 * (row * blockDim.x + threadIdx.x);
    if (i < count) {
        float total[2] = {};
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            const float2 pair = *reinterpret_cast<const float2 *>(&part[r][i / 4 % 4][i / 16 * 4 + i % 4]);
            total[0] += pair.x, total[1] += pair.y;
        }
        store(out + here + begin + i, total);
    }
}

constexpr uint32_t MERGERS = 256;

/// The moments of one tensor, [rows, runs, channels].
struct Moments {
    const float2 *pairs;
    uint32_t rows, channels;
};

/// Mean, and sum of squared deviations from it, of `count` values.
struct Run {
    float count, mean, squares;
    DEVICE Run(float2 moment, uint32_t pixels) {
        count = float(pixels);
        mean = moment.x * rcp_approx(count);
        squares = fmaxf(fmaf(-moment.x, mean, moment.y), 0.f);
    }
};

}  // namespace

// Grid (groups, images).
extern "C" __global__ void __launch_bounds__(MERGERS)
    groupnorm_scale_shift_f32(float2 *table, const float2 *a, uint32_t rows_a, uint32_t channels_a,
                              const float2 *OR_NULL b, uint32_t rows_b,
                              uint32_t channels_b, const float *gamma, const float *beta, float eps, uint32_t pixels) {
    __shared__ float shared[MERGERS / 32];
    const Moments first = {a, rows_a, channels_a}, second = {b, rows_b, channels_b};
    const uint32_t n = blockIdx.y, channels = channels_a + channels_b, width = channels / gridDim.x,
                   begin = blockIdx.x * width;
    const uint32_t runs = ceil_div(pixels, RUN), across = min(width, MERGERS), down = MERGERS / across,
                   row = threadIdx.x / across;
    // The sum of `value(moments, pixels)` over this thread's share: every `down`-th run of every `across`-th channel of
    // the group.
    auto share_of = [&](auto value) {
        float total = 0.f;
        for (uint32_t c = begin + threadIdx.x % across; c < begin + width && row < down; c += across) {
            const Moments &source = c < channels_a ? first : second;
            const float2 *pair = source.pairs + uint64_t(n % source.rows) * runs * source.channels +
                                 (c < channels_a ? c : c - channels_a);
#pragma unroll 4
            for (uint32_t run = row; run < runs; run += down) {
                total += value(pair[uint64_t(run) * source.channels], min(RUN, pixels - run * RUN));
            }
        }
        return total;
    };
    const float share = 1.f / (float(pixels) * float(width));
    const float mean =
        block_sum<MERGERS / 32>(share_of([](float2 moment, uint32_t) { return moment.x; }), shared) * share;
    const float total = share_of([&](float2 moment, uint32_t length) {
        const Run run(moment, length);
        return fmaf(run.count * (run.mean - mean), run.mean - mean, run.squares);
    });
    const float rstd = rsqrt_approx(block_sum<MERGERS / 32>(total, shared) * share + eps);
    for (uint32_t c = begin + threadIdx.x; c < begin + width; c += MERGERS) {
        const float scale = gamma[c] * rstd;
        table[uint64_t(n) * channels + c] = make_float2(scale, fmaf(-mean, scale, beta[c]));
    }
}

#define MOMENTS(T)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        groupnorm_moments_##T(float *moment, const T *x, uint32_t pixels, uint32_t channels) {                         \
        moments(moment, x, pixels, channels);                                                                          \
    }
#define APPLY(NAME, T, SILU)                                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
        groupnorm_##NAME##_##T(T *y, const T *a, uint32_t rows_a, uint32_t channels_a, const T *OR_NULL b,             \
                               uint32_t rows_b, uint32_t channels_b,                                                   \
                               const float *table, uint32_t pixels) {                                                  \
        apply<T, SILU>(y, a, rows_a, channels_a, b, rows_b, channels_b, table, pixels);                                \
    }
MOMENTS(f16)
MOMENTS(bf16)
APPLY(apply, f16, false)
APPLY(apply, bf16, false)
APPLY(silu, f16, true)
APPLY(silu, bf16, true)

EXPORT(RUN, RUN)
EXPORT(ROWS, ROWS)
EXPORT(WIDEST, WIDEST)
