// Number types and vector accesses shared by all kernels.
//
// Storage is bf16 or f16, arithmetic f32. A bf16 is the upper half of an f32, so two of them in one 32-bit word widen
// with a shift and a mask; narrowing rounds to nearest, ties to even. f16 goes through the converter both ways and
// overflows to infinity beyond 65,504.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#define DEVICE __device__ __forceinline__

/// Behind the star of a kernel's parameter: it may be null. The build reads this and makes the argument an Option.
#define OR_NULL

/// Numbers that a launch needs too: the build reads them from the PTX, Rust has them as `kernels::<file>::NAME`, one or
/// an array of several.
#define EXPORT(NAME, ...) extern "C" { __device__ int exported_##NAME[] = {__VA_ARGS__}; }

using bf16 = __nv_bfloat16;
using f16 = __half;

/// A tensor map as the driver encoded it, passed as `const __grid_constant__ TensorMap`. Aligned as CUDA 13's
/// CUtensorMap; the hardware asks for multiples of 64.
struct alignas(128) TensorMap {
    uint64_t opaque[16];
};

template <typename T> __host__ DEVICE constexpr T ceil_div(T a, T b) { return (a + b - 1) / b; }
template <typename T> __host__ DEVICE constexpr T round_up(T a, T b) { return ceil_div(a, b) * b; }

DEVICE float to_f32(float x) { return x; }
DEVICE float to_f32(bf16 x) { return __bfloat162float(x); }
DEVICE float to_f32(f16 x) { return __half2float(x); }

template <typename T> DEVICE T from_f32(float x);
template <> DEVICE float from_f32<float>(float x) { return x; }
template <> DEVICE bf16 from_f32<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> DEVICE f16 from_f32<f16>(float x) { return __float2half_rn(x); }

/// The two values of a word, widened; `.x` is the lower half, i.e. the lower address.
template <typename T> DEVICE float2 unpack(uint32_t word);
template <> DEVICE float2 unpack<bf16>(uint32_t word) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
template <> DEVICE float2 unpack<f16>(uint32_t word) {
    float2 pair;
    asm("{\n\t.reg .b16 low, high;\n\tmov.b32 {low, high}, %2;\n\tcvt.f32.f16 %0, low;\n\tcvt.f32.f16 %1, high;\n\t}"
        : "=f"(pair.x), "=f"(pair.y)
        : "r"(word));
    return pair;
}

/// Two f32 rounded into one word, `low` at the lower address.
template <typename T> DEVICE uint32_t pack(float low, float high);
template <> DEVICE uint32_t pack<bf16>(float low, float high) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
template <> DEVICE uint32_t pack<f16>(float low, float high) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

/// Eight values (16 bytes) widened.
template <typename T> DEVICE void unpack(const uint4 &words, float (&x)[8]) {
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = unpack<T>(w[i]);
        x[2 * i] = pair.x;
        x[2 * i + 1] = pair.y;
    }
}

/// Eight f32 rounded (16 bytes).
template <typename T> DEVICE uint4 pack(const float (&x)[8]) {
    return make_uint4(pack<T>(x[0], x[1]), pack<T>(x[2], x[3]), pack<T>(x[4], x[5]), pack<T>(x[6], x[7]));
}

/// `N` consecutive bf16 or f16 as f32 from an address aligned to N values (at most 16 bytes per access).
template <int N, typename T> DEVICE void load(const T *p, float (&x)[N]) {
    static_assert(sizeof(T) == 2, "bf16 or f16");
    static_assert(N == 1 || N == 2 || N == 4 || N % 8 == 0, "1, 2, 4 or a multiple of 8 values");
    if constexpr (N == 1) {
        x[0] = to_f32(*p);
    } else if constexpr (N == 2) {
        const float2 pair = unpack<T>(*reinterpret_cast<const uint32_t *>(p));
        x[0] = pair.x, x[1] = pair.y;
    } else if constexpr (N == 4) {
        const uint2 words = *reinterpret_cast<const uint2 *>(p);
        const float2 low = unpack<T>(words.x), high = unpack<T>(words.y);
        x[0] = low.x, x[1] = low.y, x[2] = high.x, x[3] = high.y;
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 8) {
            float eight[8];
            unpack<T>(*reinterpret_cast<const uint4 *>(p + i), eight);
#pragma unroll
            for (int j = 0; j < 8; j++) x[i + j] = eight[j];
        }
    }
}

template <int N> DEVICE void load(const float *p, float (&x)[N]) {
    static_assert(N == 1 || N == 2 || N % 4 == 0, "1, 2 or a multiple of 4 values");
    if constexpr (N == 1) {
        x[0] = *p;
    } else if constexpr (N == 2) {
        const float2 pair = *reinterpret_cast<const float2 *>(p);
        x[0] = pair.x, x[1] = pair.y;
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float4 four = *reinterpret_cast<const float4 *>(p + i);
            x[i] = four.x, x[i + 1] = four.y, x[i + 2] = four.z, x[i + 3] = four.w;
        }
    }
}

/// The reverse of `load`, rounding to nearest even for bf16 and f16.
template <int N, typename T> DEVICE void store(T *p, const float (&x)[N]) {
    static_assert(sizeof(T) == 2, "bf16 or f16");
    static_assert(N == 1 || N == 2 || N == 4 || N % 8 == 0, "1, 2, 4 or a multiple of 8 values");
    if constexpr (N == 1) {
        *p = from_f32<T>(x[0]);
    } else if constexpr (N == 2) {
        *reinterpret_cast<uint32_t *>(p) = pack<T>(x[0], x[1]);
    } else if constexpr (N == 4) {
        *reinterpret_cast<uint2 *>(p) = make_uint2(pack<T>(x[0], x[1]), pack<T>(x[2], x[3]));
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 8) {
            const float eight[8] = {x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]};
            *reinterpret_cast<uint4 *>(p + i) = pack<T>(eight);
        }
    }
}

template <int N> DEVICE void store(float *p, const float (&x)[N]) {
    static_assert(N == 1 || N == 2 || N % 4 == 0, "1, 2 or a multiple of 4 values");
    if constexpr (N == 1) {
        *p = x[0];
    } else if constexpr (N == 2) {
        *reinterpret_cast<float2 *>(p) = make_float2(x[0], x[1]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 4)
            *reinterpret_cast<float4 *>(p + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
    }
}

/// Address of shared memory as the 32-bit number that PTX instructions on `.shared` take.
DEVICE uint32_t shared_address(const void *p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

/// 4 and 16 bytes of shared memory by address.
DEVICE void store_shared(uint32_t address, uint32_t word) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
}
DEVICE void store_shared(uint32_t address, const uint4 &words) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(words.x), "r"(words.y), "r"(words.z),
                 "r"(words.w)
                 : "memory");
}
DEVICE uint32_t load_shared(uint32_t address) {
    uint32_t word;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
    return word;
}
DEVICE float2 load_shared_f32x2(uint32_t address) {
    float2 pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(address) : "memory");
    return pair;
}
DEVICE uint4 load_shared_x4(uint32_t address) {
    uint4 words;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "r"(address)
                 : "memory");
    return words;
}

/// 2^x, at most 2 ulp off over the normal range; flushes denormal results.
DEVICE float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// log2(x), absolute error about 2^-22 near 1, relative elsewhere.
DEVICE float log2_approx(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// 1/x within 1 ulp.
DEVICE float rcp_approx(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// 1/sqrt(x), relative error below 2^-22.9.
DEVICE float rsqrt_approx(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;
