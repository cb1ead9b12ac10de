// Softmax while the scores of a row arrive in steps, in powers of two: p = 2^(s − shift), with a shift that follows the
// row's maximum.
#pragma once
#include "types.cuh"

/// The shift moves only when the maximum lies more than this above it: p stays below 2^8, far from f16's 65,504, and
/// what was summed up before must seldom be rescaled. Which rows move depends on the row alone.
constexpr float SHIFT_LAG = 8.0f;

/// Moves `shift` for a step whose largest exponent is `most`; returns what the sums so far must be times, exactly 1 if
/// it stayed. Begin with a shift of −∞.
DEVICE float move_shift(float &shift, float most) {
    const float before = shift;
    if (most > before + SHIFT_LAG) shift = most;
    return exp2_approx(before - shift);
}

/// 2^x for x ≤ 127 on the multiply-add pipes, for where the exponential unit is what all wait for: 2^⌊x⌉ by exponent
/// bits, the rest by the cubic of least relative error on [−½, ½], 7.5e-5, a third of what rounding to f16 does. Below
/// 2^−125 no smaller.
DEVICE float exp2_cubic(float x) {
    // 1.5·2^23: adding it leaves the nearest integer in the low bits, and nothing else in the lowest 9
    constexpr float ROUND = 12582912.0f;
    const float clamped = fmaxf(x, -125.0f), shifted = clamped + ROUND, rest = clamped - (shifted - ROUND);
    const float p = fmaf(fmaf(fmaf(0.05517166954f, rest, 0.2426111254f), rest, 0.6932609857f), rest, 0.9999280733f);
    return __uint_as_float(__float_as_uint(p) + (__float_as_uint(shifted) << 23));
}
