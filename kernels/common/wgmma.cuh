// wgmma m64nNk16, bf16 or f16 inputs, f32 accumulators, N = 8 … 256: a from shared memory (`wgmma_ss`) or registers
// (`wgmma_rs`), b from shared memory, both operands K-major or MN-major. m64nNk32 of e4m3: both from shared memory,
// K-major, the same bytes as 16 of 16 bits. Included by sm90.cuh, which explains the use.
#pragma once
#include <type_traits>

struct e4m3;

// Names and constraints of accumulators 8i … 8i+7.
#define WGMMA_NAMES_1 "%0, %1, %2, %3"
#define WGMMA_NAMES_2 WGMMA_NAMES_1 ", %4, %5, %6, %7"
#define WGMMA_NAMES_3 WGMMA_NAMES_2 ", %8, %9, %10, %11"
#define WGMMA_NAMES_4 WGMMA_NAMES_3 ", %12, %13, %14, %15"
#define WGMMA_NAMES_5 WGMMA_NAMES_4 ", %16, %17, %18, %19"
#define WGMMA_NAMES_6 WGMMA_NAMES_5 ", %20, %21, %22, %23"
#define WGMMA_NAMES_8 WGMMA_NAMES_6 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_NAMES_10 WGMMA_NAMES_8 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define WGMMA_NAMES_12 WGMMA_NAMES_10 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_NAMES_14 WGMMA_NAMES_12 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define WGMMA_NAMES_16 WGMMA_NAMES_14 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_NAMES_20 WGMMA_NAMES_16 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define WGMMA_NAMES_24 WGMMA_NAMES_20 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_NAMES_26 WGMMA_NAMES_24 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define WGMMA_NAMES_28 WGMMA_NAMES_26 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define WGMMA_NAMES_32 \
    WGMMA_NAMES_28 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define WGMMA_FOUR(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_SIXTEEN(i) WGMMA_FOUR(i), WGMMA_FOUR(i + 4), WGMMA_FOUR(i + 8), WGMMA_FOUR(i + 12)
#define WGMMA_REGS_1 WGMMA_FOUR(0)
#define WGMMA_REGS_2 WGMMA_REGS_1, WGMMA_FOUR(4)
#define WGMMA_REGS_3 WGMMA_REGS_2, WGMMA_FOUR(8)
#define WGMMA_REGS_4 WGMMA_SIXTEEN(0)
#define WGMMA_REGS_5 WGMMA_REGS_4, WGMMA_FOUR(16)
#define WGMMA_REGS_6 WGMMA_REGS_5, WGMMA_FOUR(20)
#define WGMMA_REGS_8 WGMMA_REGS_4, WGMMA_SIXTEEN(16)
#define WGMMA_REGS_10 WGMMA_REGS_8, WGMMA_FOUR(32), WGMMA_FOUR(36)
#define WGMMA_REGS_12 WGMMA_REGS_8, WGMMA_SIXTEEN(32)
#define WGMMA_REGS_14 WGMMA_REGS_12, WGMMA_FOUR(48), WGMMA_FOUR(52)
#define WGMMA_REGS_16 WGMMA_REGS_12, WGMMA_SIXTEEN(48)
#define WGMMA_REGS_20 WGMMA_REGS_16, WGMMA_SIXTEEN(64)
#define WGMMA_REGS_24 WGMMA_REGS_20, WGMMA_SIXTEEN(80)
#define WGMMA_REGS_26 WGMMA_REGS_24, WGMMA_FOUR(96), WGMMA_FOUR(100)
#define WGMMA_REGS_28 WGMMA_REGS_24, WGMMA_SIXTEEN(96)
#define WGMMA_REGS_32 WGMMA_REGS_28, WGMMA_SIXTEEN(112)

// TYPE of the inputs, COLUMNS of d, EIGHTS = COLUMNS / 8, then the numbers of the operands that follow the 4·EIGHTS
// accumulators.
#define WGMMA_SS_OF(TYPE, COLUMNS, EIGHTS, A, B, ACCUMULATE, TRANS_A, TRANS_B)                                   \
    asm volatile("{\n\t.reg .pred accumulate;\n\tsetp.ne.b32 accumulate, " ACCUMULATE                            \
                 ", 0;\n\t"                                                                                      \
                 "wgmma.mma_async.sync.aligned.m64n" #COLUMNS "k16.f32." TYPE "." TYPE " {" WGMMA_NAMES_##EIGHTS \
                 "}, " A ", " B ", accumulate, 1, 1, " TRANS_A ", " TRANS_B ";\n\t}"                             \
                 : WGMMA_REGS_##EIGHTS                                                                           \
                 : "l"(a), "l"(b), "r"(accumulate), "n"(int(MAJOR_A)), "n"(int(MAJOR_B))                         \
                 : "memory")
#define WGMMA_SS_E4M3(COLUMNS, EIGHTS, A, B, ACCUMULATE, TRANS_A, TRANS_B)                               \
    asm volatile("{\n\t.reg .pred accumulate;\n\tsetp.ne.b32 accumulate, " ACCUMULATE                    \
                 ", 0;\n\t"                                                                              \
                 "wgmma.mma_async.sync.aligned.m64n" #COLUMNS "k32.f32.e4m3.e4m3 {" WGMMA_NAMES_##EIGHTS \
                 "}, " A ", " B ", accumulate, 1, 1;\n\t}"                                               \
                 : WGMMA_REGS_##EIGHTS                                                                   \
                 : "l"(a), "l"(b), "r"(accumulate)                                                       \
                 : "memory")
#define WGMMA_RS_OF(TYPE, COLUMNS, EIGHTS, A, B, ACCUMULATE, TRANS_B)                                            \
    asm volatile("{\n\t.reg .pred accumulate;\n\tsetp.ne.b32 accumulate, " ACCUMULATE                            \
                 ", 0;\n\t"                                                                                      \
                 "wgmma.mma_async.sync.aligned.m64n" #COLUMNS "k16.f32." TYPE "." TYPE " {" WGMMA_NAMES_##EIGHTS \
                 "}, {" A "}, " B ", accumulate, 1, 1, " TRANS_B ";\n\t}"                                        \
                 : WGMMA_REGS_##EIGHTS                                                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(int(MAJOR_B))        \
                 : "memory")
#define WGMMA_BY_TYPE(WGMMA, ...)                             \
    if constexpr (std::is_same_v<T, bf16>) {                  \
        WGMMA("bf16", __VA_ARGS__);                           \
    } else {                                                  \
        static_assert(std::is_same_v<T, f16>, "bf16 or f16"); \
        WGMMA("f16", __VA_ARGS__);                            \
    }
#define WGMMA_SS(...)                                                                          \
    if constexpr (std::is_same_v<T, e4m3>) {                                                   \
        static_assert(MAJOR_A == K_MAJOR && MAJOR_B == K_MAJOR, "8-bit operands are K-major"); \
        WGMMA_SS_E4M3(__VA_ARGS__);                                                            \
    } else {                                                                                   \
        WGMMA_BY_TYPE(WGMMA_SS_OF, __VA_ARGS__)                                                \
    }
#define WGMMA_RS(...) WGMMA_BY_TYPE(WGMMA_RS_OF, __VA_ARGS__)

/// d (+)= a·b with both operands in shared memory; `accumulate` = 0 overwrites d.
template <int COLUMNS, Major MAJOR_A, Major MAJOR_B, typename T = bf16>
DEVICE void wgmma_ss(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b, uint32_t accumulate) {
    if constexpr (COLUMNS == 8) {
        WGMMA_SS(8, 1, "%4", "%5", "%6", "%7", "%8");
    } else if constexpr (COLUMNS == 16) {
        WGMMA_SS(16, 2, "%8", "%9", "%10", "%11", "%12");
    } else if constexpr (COLUMNS == 24) {
        WGMMA_SS(24, 3, "%12", "%13", "%14", "%15", "%16");
    } else if constexpr (COLUMNS == 32) {
        WGMMA_SS(32, 4, "%16", "%17", "%18", "%19", "%20");
    } else if constexpr (COLUMNS == 40) {
        WGMMA_SS(40, 5, "%20", "%21", "%22", "%23", "%24");
    } else if constexpr (COLUMNS == 48) {
        WGMMA_SS(48, 6, "%24", "%25", "%26", "%27", "%28");
    } else if constexpr (COLUMNS == 64) {
        WGMMA_SS(64, 8, "%32", "%33", "%34", "%35", "%36");
    } else if constexpr (COLUMNS == 80) {
        WGMMA_SS(80, 10, "%40", "%41", "%42", "%43", "%44");
    } else if constexpr (COLUMNS == 96) {
        WGMMA_SS(96, 12, "%48", "%49", "%50", "%51", "%52");
    } else if constexpr (COLUMNS == 112) {
        WGMMA_SS(112, 14, "%56", "%57", "%58", "%59", "%60");
    } else if constexpr (COLUMNS == 128) {
        WGMMA_SS(128, 16, "%64", "%65", "%66", "%67", "%68");
    } else if constexpr (COLUMNS == 160) {
        WGMMA_SS(160, 20, "%80", "%81", "%82", "%83", "%84");
    } else if constexpr (COLUMNS == 192) {
        WGMMA_SS(192, 24, "%96", "%97", "%98", "%99", "%100");
    } else if constexpr (COLUMNS == 208) {
        WGMMA_SS(208, 26, "%104", "%105", "%106", "%107", "%108");
    } else if constexpr (COLUMNS == 224) {
        WGMMA_SS(224, 28, "%112", "%113", "%114", "%115", "%116");
    } else if constexpr (COLUMNS == 256) {
        WGMMA_SS(256, 32, "%128", "%129", "%130", "%131", "%132");
    } else {
        static_assert(COLUMNS == 0, "wgmma: no instruction of this many columns here");
    }
}

/// d (+)= a·b with a in registers: words of pairs of T, laid out as mma.m16n8k16's A for the warp's 16 rows.
template <int COLUMNS, Major MAJOR_B, typename T = bf16>
DEVICE void wgmma_rs(float (&d)[COLUMNS / 2], const uint32_t (&a)[4], uint64_t b, uint32_t accumulate) {
    if constexpr (COLUMNS == 8) {
        WGMMA_RS(8, 1, "%4, %5, %6, %7", "%8", "%9", "%10");
    } else if constexpr (COLUMNS == 16) {
        WGMMA_RS(16, 2, "%8, %9, %10, %11", "%12", "%13", "%14");
    } else if constexpr (COLUMNS == 24) {
        WGMMA_RS(24, 3, "%12, %13, %14, %15", "%16", "%17", "%18");
    } else if constexpr (COLUMNS == 32) {
        WGMMA_RS(32, 4, "%16, %17, %18, %19", "%20", "%21", "%22");
    } else if constexpr (COLUMNS == 40) {
        WGMMA_RS(40, 5, "%20, %21, %22, %23", "%24", "%25", "%26");
    } else if constexpr (COLUMNS == 48) {
        WGMMA_RS(48, 6, "%24, %25, %26, %27", "%28", "%29", "%30");
    } else if constexpr (COLUMNS == 64) {
        WGMMA_RS(64, 8, "%32, %33, %34, %35", "%36", "%37", "%38");
    } else if constexpr (COLUMNS == 80) {
        WGMMA_RS(80, 10, "%40, %41, %42, %43", "%44", "%45", "%46");
    } else if constexpr (COLUMNS == 96) {
        WGMMA_RS(96, 12, "%48, %49, %50, %51", "%52", "%53", "%54");
    } else if constexpr (COLUMNS == 112) {
        WGMMA_RS(112, 14, "%56, %57, %58, %59", "%60", "%61", "%62");
    } else if constexpr (COLUMNS == 128) {
        WGMMA_RS(128, 16, "%64, %65, %66, %67", "%68", "%69", "%70");
    } else if constexpr (COLUMNS == 160) {
        WGMMA_RS(160, 20, "%80, %81, %82, %83", "%84", "%85", "%86");
    } else if constexpr (COLUMNS == 192) {
        WGMMA_RS(192, 24, "%96, %97, %98, %99", "%100", "%101", "%102");
    } else if constexpr (COLUMNS == 224) {
        WGMMA_RS(224, 28, "%112, %113, %114, %115", "%116", "%117", "%118");
    } else if constexpr (COLUMNS == 256) {
        WGMMA_RS(256, 32, "%128, %129, %130, %131", "%132", "%133", "%134");
    } else {
        static_assert(COLUMNS == 0, "wgmma: no instruction of this many columns here");
    }
}

#undef WGMMA_SS
#undef WGMMA_RS
#undef WGMMA_BY_TYPE
#undef WGMMA_SS_OF
#undef WGMMA_SS_E4M3
#undef WGMMA_RS_OF
