// Softmax while the scores of a row arrive in steps, in powers of two: p = 2^(s − shift), with a shift that follows the row's maximum.
#pragma once
#include "types.cuh"

/// The shift moves only when the maximum lies more than this above it: p stays below 2^8, far from f16's 65,504, and what was summed up
/// before must seldom be rescaled. Which rows move depends on the row alone.
constexpr float SHIFT_LAG = 8.0f;

/// Moves `shift` for a step whose largest exponent is `most`; returns what the sums so far must be times, exactly 1 if it stayed. Begin with
/// a shift of −∞.
DEVICE float move_shift(float &shift, float most) {
    const float before = shift;
    if (most > before + SHIFT_LAG) shift = most;
    return exp2_approx(before - shift);
}
