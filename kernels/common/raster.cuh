// Order of an output's tiles.
#pragma once
#include "types.cuh"

/// Row and column of tile `number`: down GROUP rows of tiles before the next column of tiles, so that blocks that run
/// at a time touch about as much of one operand as of the other.
template <int GROUP> DEVICE int2 raster(int number, int rows, int columns) {
    const int group = number / (GROUP * columns), within = number % (GROUP * columns);
    const int height = min(rows - group * GROUP, GROUP);
    return make_int2(group * GROUP + within % height, within / height);
}
