// Hopper's own instructions: mbarriers, clusters, the tensor copy engine (TMA), wgmma, setmaxnreg, stmatrix, dependent
// launch. For files compiled for sm_90a alone (`x_sm90.cu`): elsewhere ptxas knows none of these.
//
// Addresses of shared memory are 32-bit numbers (`shared_address`), within the own block unless said otherwise.
#pragma once
#include "mma.cuh"
#include "types.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "sm90.cuh: compile this file for sm_90a only"
#endif

// ---- mbarrier: phases of `arrivals` arrivals plus any announced bytes
// -----------------------------------------------------------------

DEVICE void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
DEVICE void mbarrier_inval(uint32_t barrier) {
    asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
/// Makes initialised mbarriers visible to the copy engine and to the other blocks of the cluster (then still a block or
/// cluster barrier).
DEVICE void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
/// One arrival that also announces `bytes` which copies will deliver in this phase.
DEVICE void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Announces bytes without arriving.
DEVICE void mbarrier_expect_tx(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
DEVICE void mbarrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives at the barrier of the same place in block `rank` of the cluster (the own block included), in the lanes where
/// `arrives`; the others do nothing, without leaving the warp. Orders what wgmma and loads have read before it; said to
/// release to the cluster, ptxas would put a fence of the whole device before it (MEMBAR.ALL.GPU), which the arrival of
/// a reader does not need.
DEVICE void mbarrier_arrive_remote(uint32_t barrier, uint32_t rank, bool arrives = true) {
    asm volatile("{\n\t.reg .pred p;\n\t.reg .b32 remote;\n\t"
                 "setp.ne.b32 p, %2, 0;\n\t"
                 "@p mapa.shared::cluster.u32 remote, %0, %1;\n\t"
                 "@p mbarrier.arrive.shared::cluster.b64 _, [remote];\n\t}" ::"r"(barrier),
                 "r"(rank), "r"(static_cast<uint32_t>(arrives))
                 : "memory");
}
/// The same by the barrier's address in the cluster's window (`cluster_address`).
DEVICE void mbarrier_arrive_cluster(uint32_t remote, bool arrives = true) {
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %1, 0;\n\t@p mbarrier.arrive.shared::cluster.b64 _, [%0];\n\t}" ::"r"(
            remote),
        "r"(static_cast<uint32_t>(arrives))
        : "memory");
}
/// Whether the phase of this parity is over; waits a hardware-chosen moment before saying no.
DEVICE bool mbarrier_try_wait(uint32_t barrier, uint32_t parity) {
    uint32_t done;
    asm volatile("{\n\t.reg .pred p;\n\t"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                 "selp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done != 0;
}
/// The same, seeing also what other blocks of the cluster released before they arrived.
DEVICE bool mbarrier_try_wait_cluster(uint32_t barrier, uint32_t parity) {
    uint32_t done;
    asm volatile("{\n\t.reg .pred p;\n\t"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n\t"
                 "selp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done != 0;
}
/// Waits for the end of the phase of this parity. A fresh barrier is in phase 0: waiting for parity 1 returns at once.
DEVICE void mbarrier_wait(uint32_t barrier, uint32_t parity) {
    while (!mbarrier_try_wait(barrier, parity)) {
    }
}
DEVICE void mbarrier_wait_cluster(uint32_t barrier, uint32_t parity) {
    while (!mbarrier_try_wait_cluster(barrier, parity)) {
    }
}

// ---- clusters
// ---------------------------------------------------------------------------------------------------------------------

DEVICE uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
DEVICE uint32_t cluster_blocks() {
    uint32_t blocks;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
    return blocks;
}
/// Index of the cluster in the grid and number of clusters, along x.
DEVICE uint32_t cluster_index() {
    uint32_t index;
    asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(index));
    return index;
}
DEVICE uint32_t cluster_count() {
    uint32_t count;
    asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
    return count;
}
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
/// Barrier over all threads of all blocks of the cluster.
DEVICE void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
/// Address, in the cluster's window, of the same place in block `rank`.
DEVICE uint32_t cluster_address(uint32_t address, uint32_t rank) {
    uint32_t remote;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
    return remote;
}
DEVICE float load_cluster_f32(uint32_t remote) {
    float x;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(remote) : "memory");
    return x;
}
DEVICE void store_cluster_f32(uint32_t remote, float x) {
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(x) : "memory");
}

// ---- one lane of a converged warp
// -------------------------------------------------------------------------------------------------------

/// True in exactly one lane; all 32 lanes must call together.
DEVICE bool elect_one() {
    uint32_t elected;
    asm volatile("{\n\t.reg .pred p;\n\t"
                 "elect.sync _|p, 0xffffffff;\n\t"
                 "selp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(elected)
                 :
                 : "memory");
    return elected != 0;
}

// ---- fences between ordinary accesses and the copy engine or wgmma
// ----------------------------------------------------------------------

/// Ordinary accesses to shared memory before it are seen by the copy engine and by wgmma after it (then still a
/// barrier).
DEVICE void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/// The same for global memory and other blocks' shared memory too.
DEVICE void fence_async() { asm volatile("fence.proxy.async;" ::: "memory"); }

// ---- TMA loads: a box of a tensor map into shared memory, its bytes counted by an mbarrier
// ----------------------------------------------

/// Fetches the descriptor ahead of its first use.
DEVICE void prefetch_tensormap(const TensorMap *map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

// Coordinates are in elements, innermost first. `destination` is 128-byte aligned (1024 with the 128-byte swizzle, 512
// and 256 with the smaller ones). Elements outside the tensor become zero and count as delivered.
#define TMA_LOAD "cp.async.bulk.tensor"
#define TMA_LOAD_TAIL "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
DEVICE void tma_load(uint32_t destination, const TensorMap *map, uint32_t barrier, int x) {
    asm volatile(TMA_LOAD ".1" TMA_LOAD_TAIL " [%0], [%1, {%3}], [%2];" ::"r"(destination), "l"(map), "r"(barrier),
                 "r"(x)
                 : "memory");
}
DEVICE void tma_load(uint32_t destination, const TensorMap *map, uint32_t barrier, int x, int y) {
    asm volatile(TMA_LOAD ".2" TMA_LOAD_TAIL " [%0], [%1, {%3, %4}], [%2];" ::"r"(destination), "l"(map), "r"(barrier),
                 "r"(x), "r"(y)
                 : "memory");
}
DEVICE void tma_load(uint32_t destination, const TensorMap *map, uint32_t barrier, int x, int y, int z) {
    asm volatile(TMA_LOAD ".3" TMA_LOAD_TAIL " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(destination), "l"(map),
                 "r"(barrier), "r"(x), "r"(y), "r"(z)
                 : "memory");
}
DEVICE void tma_load(uint32_t destination, const TensorMap *map, uint32_t barrier, int x, int y, int z, int w) {
    asm volatile(TMA_LOAD ".4" TMA_LOAD_TAIL " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(destination), "l"(map),
                 "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}
DEVICE void tma_load(uint32_t destination, const TensorMap *map, uint32_t barrier, int x, int y, int z, int w, int v) {
    asm volatile(TMA_LOAD ".5" TMA_LOAD_TAIL " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(destination), "l"(map),
                 "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v)
                 : "memory");
}
/// The box lands at the same place in every block of the cluster whose bit is set in `blocks`, and its bytes count at
/// the same barrier in each.
DEVICE void tma_load_multicast(uint32_t destination, const TensorMap *map, uint32_t barrier, uint16_t blocks, int x,
                               int y) {
    asm volatile(TMA_LOAD ".2" TMA_LOAD_TAIL ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(destination),
                 "l"(map), "r"(barrier), "h"(blocks), "r"(x), "r"(y)
                 : "memory");
}
DEVICE void tma_load_multicast(uint32_t destination, const TensorMap *map, uint32_t barrier, uint16_t blocks, int x,
                               int y, int z) {
    asm volatile(TMA_LOAD ".3" TMA_LOAD_TAIL
                          ".multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(destination),
                 "l"(map), "r"(barrier), "h"(blocks), "r"(x), "r"(y), "r"(z)
                 : "memory");
}
DEVICE void tma_load_multicast(uint32_t destination, const TensorMap *map, uint32_t barrier, uint16_t blocks, int x,
                               int y, int z, int w) {
    asm volatile(TMA_LOAD ".4" TMA_LOAD_TAIL
                          ".multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(destination),
                 "l"(map), "r"(barrier), "h"(blocks), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}
/// A column of pixels of an NHWC map in im2col mode: channels from `c`, pixels from (w, h, n) on in the order of the
/// map's traversal, each moved by the offsets. The start lies within the map's pixel box, i.e. is the position of the
/// filter's first tap.
DEVICE void tma_load_im2col(uint32_t destination, const TensorMap *map, uint32_t barrier, int c, int w, int h, int n,
                            uint16_t w_offset, uint16_t h_offset) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2], "
                 "{%7, %8};" ::"r"(destination),
                 "l"(map), "r"(barrier), "r"(c), "r"(w), "r"(h), "r"(n), "h"(w_offset), "h"(h_offset)
                 : "memory");
}
#undef TMA_LOAD
#undef TMA_LOAD_TAIL

/// `bytes` (a multiple of 16, both addresses 16-byte aligned) without a tensor map.
DEVICE void bulk_load(uint32_t destination, const void *source, uint32_t bytes, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(destination),
        "l"(__cvta_generic_to_global(source)), "r"(bytes), "r"(barrier)
        : "memory");
}

// ---- TMA stores: issued, committed as a group and waited for by one thread
// --------------------------------------------------------------

// The box in shared memory is written by ordinary stores, then fence_async_shared() in each writer, then a barrier,
// then the store. Elements outside the tensor are dropped.
DEVICE void tma_store(const TensorMap *map, uint32_t source, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
                 "r"(source), "r"(x), "r"(y)
                 : "memory");
}
DEVICE void tma_store(const TensorMap *map, uint32_t source, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
                 "r"(source), "r"(x), "r"(y), "r"(z)
                 : "memory");
}
DEVICE void tma_store(const TensorMap *map, uint32_t source, int x, int y, int z, int w) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
                 "r"(source), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}
/// Adds the box to the tensor. Deterministic only while no two boxes of a launch overlap.
DEVICE void tma_store_add(const TensorMap *map, uint32_t source, int x, int y) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
        "r"(source), "r"(x), "r"(y)
        : "memory");
}
/// `bytes` (a multiple of 16, both addresses 16-byte aligned) without a tensor map.
DEVICE void bulk_store(void *destination, uint32_t source, uint32_t bytes) {
    asm volatile(
        "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(destination)),
        "r"(source), "r"(bytes)
        : "memory");
}
DEVICE void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until at most `PENDING` groups of this thread still read their shared memory.
template <int PENDING>
DEVICE void tma_store_wait_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}
/// Until at most `PENDING` groups of this thread are not yet written.
template <int PENDING>
DEVICE void tma_store_wait() {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
}

// ---- registers per thread of a warpgroup
// ------------------------------------------------------------------------------------------------

template <int REGISTERS>
DEVICE void decrease_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
DEVICE void increase_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// ---- programmatic dependent launch
// ------------------------------------------------------------------------------------------------------

/// Waits until the kernels this one depends on are complete and their writes visible.
DEVICE void grid_dependency_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
/// Lets kernels that depend on this one be scheduled.
DEVICE void grid_dependency_launch() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- stmatrix: the reverse of ldmatrix
// --------------------------------------------------------------------------------------------------

DEVICE void stmatrix_x4(uint32_t row, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r0), "r"(r1),
                 "r"(r2), "r"(r3)
                 : "memory");
}
DEVICE void stmatrix_x2(uint32_t row, uint32_t r0, uint32_t r1) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(row), "r"(r0), "r"(r1) : "memory");
}
DEVICE void stmatrix_x4_trans(uint32_t row, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r0), "r"(r1),
                 "r"(r2), "r"(r3)
                 : "memory");
}

// ---- wgmma
// ---------------------------------------------------------------------------------------------------------------------
//
// One warpgroup (4 warps from a warp index divisible by 4) computes d[64, N] (+)= a[64, 16]·b[16, N]. Warp w of it
// holds rows 16w..16w+15: d[4j], d[4j+1] are row g, columns 8j + 2t, 8j + 2t + 1; d[4j+2], d[4j+3] the same of row g +
// 8 (g = lane / 4, t = lane % 4). Use: wgmma_fence(); wgmma…; wgmma_commit(); … wgmma_wait<n>(); and touch neither d
// nor a's registers between fence and wait.

/// How an operand lies in shared memory. K-major: its k index runs along a row of the swizzle; MN-major: its m (or n)
/// index does.
enum Major { K_MAJOR = 0, MN_MAJOR = 1 };
enum SharedSwizzle : uint32_t { SWIZZLE_NONE = 0, SWIZZLE_128 = 1, SWIZZLE_64 = 2, SWIZZLE_32 = 3 };

/// Matrix descriptor. Units of the swizzle are 8 rows of S bytes (S = 128, 64, 32), 8·S bytes in all, aligned to that.
///   K-major:  a row holds S/2 consecutive k of one m; `stride` is from 8 rows (m) to the next 8; `leading` is unused
///             (swizzled). 16 k further is 32 bytes further in the address.
///   MN-major: a row holds S/2 consecutive m of one k; `stride` is from 8 rows (k) to the next 8, `leading` from S/2 m
///   to the next S/2.
///             16 k further is 2·`stride` further.
DEVICE uint64_t wgmma_descriptor(uint32_t address, uint32_t leading, uint32_t stride, SharedSwizzle swizzle) {
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(leading >> 4) << 16 |
           static_cast<uint64_t>(stride >> 4) << 32 | static_cast<uint64_t>(swizzle) << 62;
}

DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
/// Ties registers to this point of the program: the compiler moves no use of theirs across it.
template <int COUNT> DEVICE void wgmma_pin(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <int COUNT> DEVICE void wgmma_pin(uint32_t (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+r"(d[i])::"memory");
}

#include "wgmma.cuh"
