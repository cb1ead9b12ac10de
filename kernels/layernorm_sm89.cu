// Layer normalisation of rows for the layers that read e4m3, on sm_89 and newer: layernorm.cu's inference,
// y = e4m3(inverse·((x - mean)*rstd*gamma + beta)), rounded once, from f32; ±448 at most.
//
// x bf16 or f16 [rows, D], y e4m3 [rows, D]. `_rows` kernels: D a multiple of 8, at most 1280, pointers 16-byte
// aligned; `_any`: nothing. Bytes per value 3 (4 into 16 bits): bound by memory.
#include "common/e4m3.cuh"
#include "common/layernorm.cuh"

#define INFER_ROWS(VECTORS, T)                                                                                        \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, VECTORS > 8 ? 5 : 7)                                     \
        layernorm_e4m3_rows##VECTORS##_##T(e4m3 *y, float inverse, const T *x, const float *gamma, const float *beta, \
                                           uint32_t rows, uint32_t d, float eps) {                                    \
        forward_rows<VECTORS, false, T>(y, nullptr, x, gamma, beta, rows, d, d, eps, inverse);                        \
    }
#define INFER(T)                                                                                          \
    INFER_ROWS(1, T)                                                                                      \
    INFER_ROWS(2, T)                                                                                      \
    INFER_ROWS(3, T)                                                                                      \
    INFER_ROWS(4, T)                                                                                      \
    INFER_ROWS(5, T)                                                                                      \
    INFER_ROWS(6, T)                                                                                      \
    INFER_ROWS(7, T)                                                                                      \
    INFER_ROWS(8, T)                                                                                      \
    INFER_ROWS(9, T)                                                                                      \
    INFER_ROWS(10, T)                                                                                     \
    extern "C" __global__ void __launch_bounds__(32 * WARPS)                                              \
        layernorm_e4m3_any_##T(e4m3 *y, float inverse, const T *x, const float *gamma, const float *beta, \
                               uint32_t rows, uint32_t d, float eps) {                                    \
        forward_any<false, T>(y, nullptr, x, gamma, beta, rows, d, d, eps, inverse);                      \
    }
INFER(f16)
INFER(bf16)
