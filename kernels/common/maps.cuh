// Maps [N, S, S, C] by lines of pixels: a warp takes pixels of its block's line, its lanes vectors of their channels.
#pragma once
#include "reduce.cuh"

namespace {

constexpr int WARPS = 8;
/// Pixels of a line that a block takes: so many that what a line needs is worked out once for several.
constexpr uint32_t PIXELS = 32;

/// The pixels of line `blockIdx.x`, which has `count`, that a warp takes. Grid (lines, ceil(count/PIXELS)).
struct Pixels {
    uint32_t first, end;

    DEVICE explicit Pixels(uint32_t count)
        : first(blockIdx.y * PIXELS + warp_id()), end(min(count, (blockIdx.y + 1) * PIXELS)) {}
};

}  // namespace
