//! One launch: what it needs, what it counts.

use crate::check::Finding;
use crate::device::DeviceModel;
use crate::memory::DeviceMemory;
use crate::ptx::Kernel;

/// Everything a launch is made of. `params` is the packed block that [`Kernel::params`] describes.
pub struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Blocks of a cluster; `[1, 1, 1]` without clusters. The kernel's own `.reqnctapercluster` wins over `[1, 1, 1]`.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    pub params: &'a [u8],
    pub memory: &'a DeviceMemory,
    pub device: &'a DeviceModel,
    pub options: &'a Options,
}

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Order of warps and landing of copies.
    pub seed: u64,
    /// OS threads that blocks are spread over.
    pub threads: usize,
    /// Asynchronous copies land late and in random order; off, they land at once (to bisect a finding).
    pub late_copies: bool,
    /// Warp instructions that one block may execute before the launch counts as hung.
    pub budget: u64,
    /// Count what [`Stats`] has beyond instructions.
    pub stats: bool,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { seed: 0, threads, late_copies: true, budget: 20_000_000_000, stats: false }
    }
}

/// What a launch did. The figures beyond instructions are counted only on request ([`Options::stats`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub blocks: u64,
    pub warp_instructions: u64,
    /// Instructions times active lanes.
    pub lane_instructions: u64,
    /// Bytes of global memory read and written by loads and stores.
    pub global_read_bytes: u64,
    pub global_write_bytes: u64,
    /// 32-byte sectors those accesses touch.
    pub global_sectors: u64,
    pub shared_read_bytes: u64,
    pub shared_write_bytes: u64,
    /// Shared-memory wavefronts beyond one per access.
    pub bank_conflicts: u64,
    /// Warp-wide `mma.sync`.
    pub mma: u64,
    /// Warpgroup-wide `wgmma.mma_async`.
    pub wgmma: u64,
    /// Bytes moved by bulk copies.
    pub bulk_bytes: u64,
}

/// Runs the kernel to its end.
///
/// # Errors
/// The first mistake found; the launch stops there.
pub fn launch(_launch: &Launch) -> Result<Stats, Box<Finding>> {
    todo!()
}
