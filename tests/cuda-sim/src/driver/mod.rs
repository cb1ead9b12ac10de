//! The C ABI of the driver: `libcuda.so.1` as programs load it.
//!
//! A program gets what a real driver gives it, refusals and asynchrony included. Streams are threads that stay behind
//! the host on purpose; a finding is reported and then sticks to the context, as a kernel's fault does. What is not
//! modelled fails with `CUDA_ERROR_NOT_SUPPORTED` and a line on stderr that names it.
//!
//! What users set in the environment:
//!
//! | variable | default | |
//! |---|---|---|
//! | `CUDA_SIM_DEVICE` | `h200` | `h200`, `h100-pcie`, `a100`, `rtx4090`, `t4`, or `none` for a machine without a card |
//! | `CUDA_SIM_MEMORY` | 2 GiB | device memory, bytes |
//! | `CUDA_SIM_DRIVER_VERSION` | 13000 | answer of `cuDriverGetVersion`; older ones refuse newer PTX |
//! | `CUDA_SIM_SEED` | 0 | order of warps, landing of copies, lag of streams, order of graph nodes |
//! | `CUDA_SIM_THREADS` | all cores | OS threads that the blocks of a launch are spread over |
//! | `CUDA_SIM_LATE` | 1 | 0: asynchronous copies of kernels land at once |
//! | `CUDA_SIM_WHOLE_SPANS` | 0 | 1: a card whose wgmma takes only whole spans of an n-major, swizzled B, the rest wrong |
//! | `CUDA_SIM_BUDGET` | 2·10¹⁰ | warp instructions of one block before a launch counts as hung |
//! | `CUDA_SIM_LAG_US` | 10000 | how long an idle stream stays behind a host that does not wait |
//! | `CUDA_SIM_REPORT` | | file that findings are appended to, besides stderr |
//! | `CUDA_SIM_STATS` | | file that gets one JSON line for each launch |
//!
//! The functions have the names and arguments of `cuda.h`; the types in [`ffi`] stand for its pointers.
#![allow(non_snake_case, non_camel_case_types)]

pub mod attributes;
pub mod capture;
pub mod context;
pub mod copy;
pub mod errors;
pub mod event;
mod exit;
pub mod ffi;
pub mod fill;
pub mod function;
pub mod graph;
pub mod graph_exec;
pub mod graph_node;
pub mod handles;
pub mod host;
pub mod jit;
pub mod launch;
pub mod memory;
pub mod module;
pub mod occupancy;
pub mod pool;
pub mod proc_address;
pub mod refused;
pub mod state;
pub mod stream;
pub mod tensor_map;
pub mod work;

pub use state::{Settings, start};
