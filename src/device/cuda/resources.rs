//! What the compiler gave each kernel, from the build.

/// One kernel compiled for one target. The build refuses spills and local memory, so that they need no report.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Of the file in `kernels/`.
    pub stem: &'static str,
    pub kernel: &'static str,
    /// `sm_80`, …
    pub target: &'static str,
    /// Per thread.
    pub registers: u32,
    /// Bytes per block, without dynamic shared memory.
    pub static_shared: u32,
    /// Most threads of a block.
    pub threads: u32,
}

impl Resources {
    /// Blocks of the largest size that a multiprocessor's 65,536 registers hold; registers go to warps in units of 256.
    pub fn blocks_by_registers(&self) -> u32 {
        let warp = (self.registers * 32).next_multiple_of(256).max(1);
        65_536 / (warp * self.threads.div_ceil(32).max(1))
    }
}
