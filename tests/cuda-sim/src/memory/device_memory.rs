//! Skeleton of the interface; the implementation follows.

use crate::check::Finding;

/// Global memory of the simulated card, shared by all threads that run blocks.
pub struct DeviceMemory {
    total: usize,
}

type Checked = Result<(), Box<Finding>>;

impl DeviceMemory {
    pub fn new(total_bytes: usize) -> Self {
        Self { total: total_bytes }
    }

    /// A new allocation, or `None` when the card is full. Its bytes count as unwritten. `align` is at least 256.
    pub fn alloc(&self, _bytes: usize, _align: usize) -> Option<u64> {
        todo!()
    }

    pub fn free(&self, _addr: u64) -> Checked {
        todo!()
    }

    /// From now on kernels may only read the allocation at `addr` (module constants).
    pub fn protect(&self, _addr: u64) {
        todo!()
    }

    pub fn write(&self, _addr: u64, _from: &[u8]) -> Checked {
        todo!()
    }

    /// Host-side read; bytes nobody wrote are a finding, as in a kernel.
    pub fn read(&self, _addr: u64, _to: &mut [u8]) -> Checked {
        todo!()
    }

    /// Device-to-device copy of `n` bytes; ranges may be in one allocation. What is unwritten in `src` becomes unwritten in `dst`.
    pub fn copy(&self, _dst: u64, _src: u64, _n: usize) -> Checked {
        todo!()
    }

    /// Repeats `pattern` `count` times from `addr`.
    pub fn fill(&self, _addr: u64, _pattern: &[u8], _count: usize) -> Checked {
        todo!()
    }

    /// Base and size of the live allocation that holds `addr`.
    pub fn range(&self, _addr: u64) -> Option<(u64, usize)> {
        todo!()
    }

    /// Bytes in live allocations.
    pub fn used(&self) -> usize {
        todo!()
    }

    pub fn total(&self) -> usize {
        self.total
    }
}
