// Floating-point numbers of 8 bits (4 of exponent, 3 of mantissa) on sm_89 and newer: conversions and mma.sync.
#pragma once
#include "mma.cuh"

/// ±448 at most; NaN but no infinities. No arithmetic: only matrix instructions read it.
struct e4m3 {
    uint8_t bits;
};

/// Two f32 rounded to nearest even, ±448 at most, `low` at the lower address.
DEVICE uint32_t pack_e4m3(float low, float high) {
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}
/// Four of them in a word.
DEVICE uint32_t pack_e4m3(float a, float b, float c, float d) { return pack_e4m3(a, b) | pack_e4m3(c, d) << 16; }

template <> DEVICE e4m3 from_f32<e4m3>(float x) { return {static_cast<uint8_t>(pack_e4m3(x, 0.0f))}; }

/// `N` consecutive values at an address aligned to N bytes.
template <int N> DEVICE void store(e4m3 *p, const float (&x)[N]) {
    static_assert(N == 4 || N == 8, "4 or 8 values");
    if constexpr (N == 4) {
        *reinterpret_cast<uint32_t *>(p) = pack_e4m3(x[0], x[1], x[2], x[3]);
    } else {
        *reinterpret_cast<uint2 *>(p) =
            make_uint2(pack_e4m3(x[0], x[1], x[2], x[3]), pack_e4m3(x[4], x[5], x[6], x[7]));
    }
}

/// `d += a·b`, 16×8×32. The fragments are m16n8k16's byte for byte, so `ldmatrix` loads them as pairs.
template <> DEVICE void mma<e4m3>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
