// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011) and normals from it, the streams of src/rng.rs.
#pragma once
#include "types.cuh"

/// Four uniform words for this counter under this key.
DEVICE uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t low0 = 0xD2511F53u * counter.x, high0 = __umulhi(0xD2511F53u, counter.x);
        const uint32_t low1 = 0xCD9E8D57u * counter.z, high1 = __umulhi(0xCD9E8D57u, counter.z);
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

/// Two standard normals of two uniform words by Box–Muller in f64, as the CPU: equal but for the last place of the
/// libraries' logarithm.
DEVICE float2 normal_pair(uint32_t first, uint32_t second) {
    const double u = (first + 0.5) * (1.0 / 4294967296.0), radius = sqrt(-2.0 * log(u));
    double sine, cosine;
    // In half turns: no reduction by pi is needed, and no table in local memory.
    sincospi(second * (2.0 / 4294967296.0), &sine, &cosine);
    return make_float2(static_cast<float>(radius * cosine), static_cast<float>(radius * sine));
}

/// Values 4·block … 4·block + 3 of the normal stream of (key, ids).
DEVICE float4 philox_normal(uint32_t block, uint3 ids, uint2 key) {
    const uint4 words = philox(make_uint4(block, ids.x, ids.y, ids.z), key);
    const float2 a = normal_pair(words.x, words.y), b = normal_pair(words.z, words.w);
    return make_float4(a.x, a.y, b.x, b.y);
}
