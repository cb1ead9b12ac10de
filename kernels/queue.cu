// A ring of keys and their labels: the rows of a step go to the slots from `start` on, which the device reads, so that
// a recorded update goes on from where the last one ended.
//
//   keys [Q, d], kept [Q]; rows [n, d], labels [n], n <= Q; start [1] < Q
//
// Bytes    8 per value. Bound: memory. One thread per value, rows side by side.
#include "common/types.cuh"

namespace {

constexpr int THREADS = 256;

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    queue_put_f32(float *keys, uint32_t *kept, const float *rows, const uint32_t *labels, const uint32_t *start,
                  uint32_t count, uint32_t slots, uint32_t d) {
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    const uint32_t row = i / d, column = i - row * d;
    if (row >= count) return;
    const uint32_t behind = *start + row, slot = behind < slots ? behind : behind - slots;
    keys[uint64_t(slot) * d + column] = rows[i];
    if (column == 0) kept[slot] = labels[row];
}

EXPORT(THREADS, THREADS)
