//! Names, shapes and layouts of tensors: in memory (one flat parameter buffer) and on disk (safetensors).

mod cache;
mod delta;
#[cfg(cuda_kernels)]
mod device;
mod foreign;
mod params;
mod safetensors;

pub use cache::Cache;
pub use delta::Delta;
#[cfg(cuda_kernels)]
pub use device::DeviceParams;
pub use foreign::{is_lfs_pointer, lfs_pointer};
pub use params::{COPY, Param, ParamInfo, ParamTable, pair_mut, several_mut};
pub use safetensors::{NamedTensor, SafeTensors, write_safetensors};
