//! Where computation runs and how much memory it has.

mod mapped;
mod plan;

pub use mapped::MappedFile;
pub use plan::{Plan, human_bytes};

use crate::error::{Error, Result};

/// A place to compute. CUDA devices join here with their kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
}

impl Device {
    /// Parses `--device`: `cpu`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "cpu" => Ok(Self::Cpu),
            other if other.starts_with("cuda") => Err(Error::Device(format!(
                "--device {other}: this version computes on the CPU only; use --device cpu (the CUDA kernels are not written yet)"
            ))),
            other => Err(Error::Usage(format!("--device {other}: expected `cpu`"))),
        }
    }

    /// Bytes that can still be allocated, when the system tells.
    pub fn available_bytes(self) -> Option<u64> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }
}

/// Sizes rayon's global pool; `None` uses every core. Call once, before any work.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if threads == 0 || threads > 4096 {
        return Err(Error::Usage(format!("--threads {threads}: expected 1 to 4096")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::Failed(format!("cannot start {threads} threads: {e}; try a smaller --threads")))
}
