//! Linear classifiers trained side by side on the same features, one per learning rate, in one matrix product.

mod cpu;
#[cfg(cuda_kernels)]
mod cuda;
mod kind;

pub use cpu::{Heads, Running};
#[cfg(cuda_kernels)]
pub use cuda::CudaHeads;
pub use kind::{Classifiers, EVAL_ROWS, Kind, Tensor};
