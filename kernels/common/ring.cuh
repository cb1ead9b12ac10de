// The ring of shared-memory stages between a producer and its consumers on Hopper.
#pragma once
#include "sm90.cuh"

/// Stages that steps of k go through in turn, in each of the cluster's BLOCKS blocks: full when a step's bytes have
/// landed, empty when all consumers of all blocks are done with it.
template <int STAGES, int STAGE, int BLOCKS> struct Ring {
    uint32_t stages, barriers;

    DEVICE uint32_t stage(uint32_t step) const { return stages + step % STAGES * STAGE; }
    DEVICE uint32_t full(uint32_t step) const { return barriers + step % STAGES * 8; }
    DEVICE uint32_t empty(uint32_t step) const { return barriers + (STAGES + step % STAGES) * 8; }
    DEVICE uint32_t parity(uint32_t step) const { return step / STAGES & 1; }

    DEVICE void wait_full(uint32_t step) const { mbarrier_wait(full(step), parity(step)); }
    /// For the producer; the first round finds every stage empty. Releases come from other blocks too.
    DEVICE void wait_empty(uint32_t step) const { mbarrier_wait_cluster(empty(step), parity(step) ^ 1); }
    /// By all threads of a consumer: one arrival in each block, because each block's loads write all.
    DEVICE void release(uint32_t step, int thread) const {
        mbarrier_arrive_remote(empty(step), thread, thread < BLOCKS);
    }
};
