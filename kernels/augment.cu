// Views of images: antialiased bilinear or bicubic crop-resize, colour jitter, grayscale, blur, solarisation, flip; u8
// in, u8 out, with the CPU's (Pillow's) bits.
//
//   out [·, S, S, 3] u8, image i of `jobs` from packed [height, width, 3] u8 pictures of any sizes.
//   Optionally the picture is first resized twice (its short side down, then up again).
//
// One block makes one view after the other. The view itself stays in shared memory (S = 224: 148 KiB, rows padded to an
// odd number of words so that neither rows nor columns meet a bank twice), or in global memory where it does not fit;
// what is between the two passes of a resize, and the filters' weights, are in the block's slot of global scratch,
// which stays in L2. Every step is a sweep of the block over the view, the random order of the jitter costs two sweeps
// at most: what comes before the contrast with the sum that it needs, then the rest. The blur runs its three boxes in
// one pass over each line, in place.
//
// Bits: integer where Pillow's is integer; float operations are named one by one (__fmul_rn …), so that none is fused.
//
// Alignment: 4 bytes for `out`, 16 for `scratch`; pictures begin at any byte. S ≤ 4096.
//
// Operations: 517 thousand warp instructions (PTX, counted) per 224² view on average over a mix of 3 strong, 1 weak and
// 1 plain view; bytes: 3·(crop's pixels) read, 3·S² written, and three times the crop's rows through L2. Bound by
// issuing, at about two per clock.
#include "common/box_blur.cuh"
#include "common/reduce.cuh"
#include "common/resize.cuh"
#include "common/types.cuh"

/// What to do to make one view; `Job` of src/ops/augment/cuda.rs.
struct Job {
    /// First byte of the picture in `images`.
    unsigned long long offset;
    uint32_t width, height;
    /// Sizes the picture is resized to first; 0 if it is not.
    uint32_t low_width, low_height, high_width, high_height;
    /// The part that becomes the view.
    uint32_t left, top, crop_width, crop_height;
    /// One byte per colour change, first at the bottom: 0 brightness, 1 contrast, 2 saturation, 3 hue, NOTHING.
    uint32_t changes;
    float brightness, contrast, saturation;
    /// Steps of 1/255 turn.
    int hue;
    uint32_t grayscale;
    /// Whole radius of the boxes, and the weights of a value inside and at either end in 24 fractional bits; full 0: no
    /// blur.
    uint32_t radius, full, edge;
    uint32_t flip;
    /// Which picture of `out` the view is.
    uint32_t row;
    /// Whether the crop is resized by the bicubic filter, not the bilinear one.
    uint16_t cubic;
    /// Whether values of 128 and more are inverted.
    uint16_t solarize;
};
constexpr uint32_t NOTHING = 0xff;
constexpr uint32_t CONTRAST = 1;

extern __shared__ __align__(16) unsigned char shared[];

// ---- colours
// ---------------------------------------------------------------------------------------------------------------------

struct Color {
    uint32_t red, green, blue;
    /// ITU-R 601 in 16 fractional bits.
    DEVICE uint32_t luma() const { return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16; }
};

/// `from + factor·(to − from)`, truncated, within 0 … 255.
DEVICE uint32_t blend(uint32_t from, uint32_t to, float factor) {
    const float a = static_cast<float>(from), b = static_cast<float>(to);
    return min(__float2uint_rz(__fadd_rn(a, __fmul_rn(factor, __fsub_rn(b, a)))), 255u);
}
DEVICE Color blend(const Color &from, const Color &to, float factor) {
    return {blend(from.red, to.red, factor), blend(from.green, to.green, factor), blend(from.blue, to.blue, factor)};
}

/// The way back from a hue and a saturation in 8 bits, where it would divide or branch.
struct HueTables {
    double saturation[256];
    /// How far a hue is into its sixth of the circle.
    float fraction[256];
    /// Which of the bytes v, p, q, t are red, green and blue: selectors of __byte_perm.
    uint16_t channels[256];

    DEVICE void fill() {
        for (int i = threadIdx.x; i < 256; i += blockDim.x) {
            const int sector = i * 6 / 255;
            saturation[i] = __ddiv_rn(i, 255.0);
            fraction[i] = __double2float_rn(__dsub_rn(__ddiv_rn(i * 6, 255.0), sector));
            // vtp, qvp, pvt, pqv, tpv, vpq; the seventh is the first.
            channels[i] = sector == 1   ? 0x102
                          : sector == 2 ? 0x301
                          : sector == 3 ? 0x021
                          : sector == 4 ? 0x013
                          : sector == 5 ? 0x210
                                        : 0x130;
        }
    }
};

/// x / 6, correctly rounded: the quotient by a rounded reciprocal, then by its exact remainder (Markstein).
DEVICE double sixth(double x) {
    const double reciprocal = 1.0 / 6.0, quotient = __dmul_rn(x, reciprocal);
    return __fma_rn(__fma_rn(-6.0, quotient, x), reciprocal, quotient);
}

/// RGB → HSV of 8 bits each, `steps` added to the hue, and back; sums in f64, rounded to f32 where Pillow does.
DEVICE Color turned(const Color &color, int steps, const HueTables &tables) {
    const int r = color.red, g = color.green, b = color.blue;
    const int most = max(max(r, g), b), least = min(min(r, g), b), middle = r + g + b - most - least;
    // How far a channel is from the most, in parts of the range: only the middle one's share needs a division.
    const float share = __fdiv_rn(static_cast<float>(most - middle), static_cast<float>(max(most - least, 1)));
    auto part = [&](int v) -> double { return v == most ? 0.0f : v == least ? 1.0f : share; };
    const double base = r == most ? 0.0 : g == most ? 2.0 : 4.0;
    const double hue = __dsub_rn(__dadd_rn(base, part(r == most   ? b
                                                      : g == most ? r
                                                                  : g)),
                                 part(r == most   ? g
                                      : g == most ? b
                                                  : r));
    double turn = __dadd_rn(sixth(__double2float_rn(hue)), 1.0);
    if (turn >= 1.0) turn = __dsub_rn(turn, 1.0);
    const int h = (__double2int_rz(__dmul_rn(__double2float_rn(turn), 255.0)) + steps) & 255;
    const int s = __double2int_rz(
        __dmul_rn(__fdiv_rn(static_cast<float>(most - least), static_cast<float>(max(most, 1))), 255.0));

    const double value = most, saturation = tables.saturation[s], fraction = tables.fraction[h];
    auto dimmed = [&](double by) {
        return static_cast<uint32_t>(__double2int_rz(__dadd_rn(__dmul_rn(value, __dsub_rn(1.0, by)), 0.5)));
    };
    const uint32_t p = dimmed(saturation), q = dimmed(__dmul_rn(saturation, fraction)),
                   t = dimmed(__dmul_rn(saturation, __dsub_rn(1.0, fraction)));
    const uint32_t rgb = __byte_perm(most | p << 8 | q << 16 | t << 24, 0, tables.channels[h]);
    return {rgb & 255, rgb >> 8 & 255, rgb >> 16 & 255};
}

DEVICE Color changed(uint32_t change, const Color &color, const Job &job, uint32_t mean, const HueTables &tables) {
    if (change == 0) return blend({0, 0, 0}, color, job.brightness);
    if (change == CONTRAST) return blend({mean, mean, mean}, color, job.contrast);
    if (change == 2) {
        const uint32_t gray = color.luma();
        return blend({gray, gray, gray}, color, job.saturation);
    }
    return turned(color, job.hue, tables);
}

/// Applies the changes of `changes` (one byte each, until NOTHING) and maybe grayscale to every pixel; returns this
/// thread's sum of lumas.
DEVICE uint32_t recolor(Rows view, int side, uint32_t changes, bool grayscale, const Job &job, uint32_t mean,
                        const HueTables &tables) {
    uint32_t sum = 0;
    for (int y = warp_id(); y < side; y += blockDim.x / 32) {
        for (int x = lane_id(); x < side; x += 32) {
            unsigned char *pixel = view.data + y * view.pitch + 3 * x;
            Color color = {pixel[0], pixel[1], pixel[2]};
#pragma unroll 1
            for (uint32_t left = changes; (left & 255) != NOTHING; left = left >> 8 | NOTHING << 24) {
                color = changed(left & 255, color, job, mean, tables);
            }
            const uint32_t luma = color.luma();
            if (grayscale) color = {luma, luma, luma};
            sum += luma;
            pixel[0] = color.red, pixel[1] = color.green, pixel[2] = color.blue;
        }
    }
    return sum;
}

/// Sum over the block, in every thread. S ≤ 4096, so it fits: 4096²·255 < 2^32.
DEVICE uint32_t block_sum_u32(uint32_t x) {
    __shared__ uint32_t warps[32];
    x = __reduce_add_sync(FULL_WARP, x);
    if (lane_id() == 0) warps[warp_id()] = x;
    __syncthreads();
    uint32_t total = 0;
    for (int w = 0; w < blockDim.x / 32; w++) total += warps[w];
    return total;
}

/// The jitter and the grayscale.
DEVICE void recolor(Rows view, int side, const Job &job, const HueTables &tables) {
    uint32_t before = 0xffffffff, after = job.changes, mean = 0;
    for (int i = 0; i < 4; i++) {
        if ((job.changes >> 8 * i & 255) == CONTRAST) {
            // The changes up to the contrast, and from it on.
            before = i == 0 ? before : job.changes | 0xffffffffu << 8 * i;
            after = i == 0 ? job.changes : job.changes >> 8 * i | 0xffffffffu << (32 - 8 * i);
            const uint32_t sum = block_sum_u32(recolor(view, side, before, false, job, 0, tables));
            mean = __double2uint_rz(__dadd_rn(__ddiv_rn(sum, side * side), 0.5));
        }
    }
    if ((after & 255) != NOTHING || job.grayscale) recolor(view, side, after, job.grayscale, job, mean, tables);
    __syncthreads();
}

// ---- blur
// ---------------------------------------------------------------------------------------------------------------------

/// Three boxes along every row, then three along every column; a thread per line. `between` holds a picture like the
/// view.
DEVICE void blur(Rows view, int side, const Job &job, unsigned char *between) {
    const BoxWeights weights = {job.full, job.edge};
    const int lines = 3 * side, pitch = word_pitch(side);
    for (int direction = 0; direction < 2; direction++) {
        const int stride = direction == 0 ? 3 : view.pitch;
        if (job.radius <= 1) {
            for (int i = threadIdx.x; i < lines; i += blockDim.x) {
                unsigned char *line = view.data + (direction == 0 ? i / 3 * view.pitch + i % 3 : i);
                if (job.radius == 0) {
                    blur_line<0>(line, stride, side, weights);
                } else {
                    blur_line<1>(line, stride, side, weights);
                }
            }
        } else {
            // Wider than the recipe draws them: there and back again between the view and the scratch memory.
            for (int pass = 0; pass < 3; pass++) {
                const bool there = (direction + pass) % 2 == 0;
                const Rows from = there ? view : Rows{between, pitch}, to = there ? Rows{between, pitch} : view;
                for (int i = threadIdx.x; i < lines; i += blockDim.x) {
                    const int row = direction == 0 ? i / 3 : 0, within = direction == 0 ? i % 3 : i;
                    box_line(to.data + row * to.pitch + within, direction == 0 ? 3 : to.pitch,
                             from.data + row * from.pitch + within, direction == 0 ? 3 : from.pitch, side, job.radius,
                             weights);
                }
                __syncthreads();
            }
        }
        __syncthreads();
    }
}

// ---- the whole
// ---------------------------------------------------------------------------------------------------------------------

/// Writes the view; a warp per row, a word per lane where rows are whole words.
DEVICE void write(unsigned char *out, Rows view, int side, bool flip, bool solarize) {
    for (int y = warp_id(); y < side; y += blockDim.x / 32) {
        const unsigned char *row = view.data + y * view.pitch;
        auto value = [&](int i) -> uint32_t {
            const uint32_t v = row[flip ? 3 * (side - 1 - i / 3) + i % 3 : i];
            return solarize && v >= 128 ? 255 - v : v;
        };
        unsigned char *line = out + static_cast<size_t>(y) * 3 * side;
        if (side % 4 == 0) {
            for (int x = 4 * lane_id(); x < 3 * side; x += 128) {
                const uint32_t word = value(x) | value(x + 1) << 8 | value(x + 2) << 16 | value(x + 3) << 24;
                *reinterpret_cast<uint32_t *>(line + x) = word;
            }
        } else {
            for (int x = lane_id(); x < 3 * side; x += 32) line[x] = value(x);
        }
    }
}

/// Each block takes every gridDim.x-th job. Its slot of `scratch` [blocks, slot] holds the filters' weights (4-byte
/// words) from 0 on, and pictures from the other offsets (multiples of 16).
template <bool SHARED>
DEVICE void augment(unsigned char *out, const uint32_t *jobs, const unsigned char *images, unsigned char *scratch,
                    int count, int side, uint32_t between_at, uint32_t low_at, uint32_t high_at, uint32_t view_at,
                    unsigned long long slot_bytes) {
    __shared__ Job job;
    __shared__ HueTables tables;
    unsigned char *slot = scratch + blockIdx.x * slot_bytes, *between = slot + between_at;
    int *weights = reinterpret_cast<int *>(slot);
    const Rows view = {SHARED ? shared : slot + view_at, (ceil_div(3 * side, 4) | 1) * 4};
    tables.fill();
    for (int index = blockIdx.x; index < count; index += gridDim.x) {
        constexpr int WORDS = sizeof(Job) / 4;
        if (threadIdx.x < WORDS) {
            reinterpret_cast<uint32_t *>(&job)[threadIdx.x] = jobs[static_cast<size_t>(index) * WORDS + threadIdx.x];
        }
        __syncthreads();
        const unsigned char *picture = images + job.offset;
        int width = job.width, height = job.height, pitch = 3 * width;
        for (int stage = job.low_width > 0 ? 0 : 2; stage < 3; stage++) {
            if (stage == 2) {
                picture += static_cast<size_t>(job.top) * pitch + 3 * job.left;
                width = job.crop_width, height = job.crop_height;
            }
            const int to_width = stage == 0 ? job.low_width : stage == 1 ? job.high_width : side;
            const int to_height = stage == 0 ? job.low_height : stage == 1 ? job.high_height : side;
            const Rows to = stage == 2 ? view : Rows{slot + (stage == 0 ? low_at : high_at), word_pitch(to_width)};
            resize(to, picture, pitch, width, height, to_width, to_height, stage == 2 && job.cubic, weights, between);
            picture = to.data, pitch = to.pitch, width = to_width, height = to_height;
        }
        recolor(view, side, job, tables);
        if (job.full != 0) blur(view, side, job, between);
        write(out + static_cast<size_t>(job.row) * side * side * 3, view, side, job.flip, job.solarize);
        __syncthreads();
    }
}

#define AUGMENT(NAME, SHARED)                                                                                          \
    extern "C" __global__ void __launch_bounds__(768)                                                                  \
        NAME(unsigned char *out, const uint32_t *jobs, const unsigned char *images, unsigned char *scratch, int count, \
             int side, uint32_t between_at, uint32_t low_at, uint32_t high_at, uint32_t view_at,                       \
             unsigned long long slot_bytes) {                                                                          \
        augment<SHARED>(out, jobs, images, scratch, count, side, between_at, low_at, high_at, view_at, slot_bytes);    \
    }
AUGMENT(augment_shared_u8, true)
AUGMENT(augment_global_u8, false)
