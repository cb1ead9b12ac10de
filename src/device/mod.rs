//! Where computation runs and how much memory it has.

mod bytes;
#[cfg(cuda_kernels)]
pub mod cuda;
mod heap;
mod huge;
mod mapped;
mod memory;
#[cfg(cuda_kernels)]
mod own;
mod plan;
mod queued;

pub use bytes::{human_bytes, parse_bytes};
pub use heap::{Heap, begin};
pub use mapped::MappedFile;
pub use memory::{Available, Limit, available};
pub use plan::Plan;
pub use queued::Queued;

use std::fmt;

use crate::error::{Error, Result};
#[cfg(cuda_kernels)]
use crate::say;

/// A place to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// The NVIDIA GPU of this number.
    #[cfg(cuda_kernels)]
    Cuda(usize),
}

impl fmt::Display for Device {
    /// As `--device` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(cuda_kernels)]
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl Device {
    /// Parses `--device`: `cpu`, `cuda` (the GPU of this process's local rank, else the first) or `cuda:N`.
    ///
    /// # Errors
    /// Usage error for anything else, or a local rank without a GPU; device error when this build has no kernels.
    pub fn parse(text: &str) -> Result<Self> {
        let number = || text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Self::cuda(None),
            _ => match number() {
                Some(ordinal) => Self::cuda(Some(ordinal)),
                None => Err(Error::Usage(format!("--device {text}: expected `cpu`, `cuda` or `cuda:N`, e.g. cuda:0"))),
            },
        }
    }

    #[cfg(cuda_kernels)]
    fn cuda(ordinal: Option<usize>) -> Result<Self> {
        if let Some(ordinal) = ordinal {
            return Ok(Self::Cuda(ordinal));
        }
        // What keeps GPUs from being counted is said when one is opened.
        let (ordinal, chosen_by) = own::gpu(cuda::Gpu::count().unwrap_or(0), |name| std::env::var(name).ok())?;
        if let Some(variable) = chosen_by {
            say!("--device cuda is cuda:{ordinal}, by {variable}");
        }
        Ok(Self::Cuda(ordinal))
    }

    #[cfg(not(cuda_kernels))]
    fn cuda(_: Option<usize>) -> Result<Self> {
        Err(Error::Device(
            "--device cuda: this build has no CUDA kernels, because NVRTC was not found when it was built; \
             run dev/cuda-toolchain.sh (fetches it from PyPI) or set CUDA_HOME, build again, or use --device cpu"
                .into(),
        ))
    }
}

/// Which GPUs this build has kernels for, in words.
pub fn kernels() -> String {
    #[cfg(cuda_kernels)]
    return cuda::built_for();
    #[cfg(not(cuda_kernels))]
    return "built without CUDA kernels: no NVRTC".into();
}

/// Does `work` on a thread of rayon's pool. For what shares many short loops with all threads: begun elsewhere, each of
/// them would put its own thread to sleep and wake another twice. `work` must not wait for other users of the pool.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Starts rayon's global pool; `None` uses every core. Call once, before any work.
///
/// # Errors
/// Usage error for a number that makes no sense, device error when the system refuses threads.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads.filter(|threads| !(1..=4096).contains(threads)) {
        return Err(Error::Usage(format!("--threads {threads}: expected 1 to 4096")));
    }
    // Zero is rayon's word for every core.
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build_global().map_err(|e| {
        let wanted = threads.map_or_else(|| "a thread for every core".into(), |threads| format!("{threads} threads"));
        Error::Device(format!(
            "cannot start {wanted}: {e}; threads or the memory of their stacks are limited (ulimit -u, ulimit -v): \
             give a smaller --threads or raise the limit"
        ))
    })
}
