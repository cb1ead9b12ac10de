//! The C ABI of the driver: `libcuda.so.1` as programs load it.
//!
//! A program gets what a real driver gives it, refusals and asynchrony included. Streams are threads that stay behind
//! the host on purpose; a finding is reported and then sticks to the context, as a kernel's fault does. What is not
//! modelled fails with `CUDA_ERROR_NOT_SUPPORTED` and a line on stderr that names it.
//!
//! What users set in the environment is listed in the crate's README.
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
