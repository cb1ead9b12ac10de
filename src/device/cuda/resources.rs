//! What the compiler gave each kernel, from the build.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kernels::RESOURCES;
use crate::error::{Error, Result};

/// One kernel compiled for one target. Spills and stack are in the report too, but never anything but 0: the build refuses them.
#[derive(Clone, Debug, Deserialize)]
pub struct Resources {
    pub kernel: String,
    /// `sm_80`, …
    pub target: String,
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

/// By stem of the file in `kernels/`; empty lists in a build without machine code.
///
/// # Errors
/// If the build's report cannot be read.
pub fn resources() -> Result<BTreeMap<String, Vec<Resources>>> {
    serde_json::from_str(RESOURCES).map_err(|e| Error::Failed(format!("the build's report on its kernels: {e}")))
}
