// Exact GELU x·Φ(x) and its derivative Φ(x) + x·φ(x); the same approximation of Φ as the CPU op: erf(z) = 1 − (a1·t + …
// + a5·t⁵)·e^(−z²), t = 1/(1 + p·z), z = |x|/√2 (Abramowitz & Stegun 7.1.26), within 1.5e-7. Two special-function
// results and about 12 FMAs per value.
#pragma once
#include "types.cuh"

/// Φ(x), and e^(−x²/2) which the density shares.
DEVICE void normal_cdf(float x, float &cdf, float &bell) {
    const float t = rcp_approx(fmaf(0.3275911f * 0.70710678f, fabsf(x), 1.0f));
    bell = exp2_approx((-0.5f * LOG2_E) * x * x);
    float p = 0.5f * 1.061405429f;
    p = fmaf(p, t, -0.5f * 1.453152027f);
    p = fmaf(p, t, 0.5f * 1.421413741f);
    p = fmaf(p, t, -0.5f * 0.284496736f);
    p = fmaf(p, t, 0.5f * 0.254829592f);
    const float tail = p * t * bell;
    cdf = x < 0.0f ? tail : 1.0f - tail;
}

DEVICE float gelu(float x) {
    float cdf, bell;
    normal_cdf(x, cdf, bell);
    return x * cdf;
}

DEVICE float gelu_derivative(float x) {
    float cdf, bell;
    normal_cdf(x, cdf, bell);
    return fmaf(0.3989422804f * x, bell, cdf);
}
