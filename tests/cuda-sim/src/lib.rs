//! A simulated CUDA driver.
//!
//! Built as `libcuda.so.1`, it reports a Hopper or Ampere device and executes the PTX it is given, warp by warp,
//! on the CPU. Every memory access, barrier and asynchronous copy is checked; the first mistake stops the launch
//! with a [`check::Finding`] that names kernel, block, thread and line.
//!
//! Layers, each using only those below it:
//! `driver` (the C ABI) · `exec` (grids, warps, instructions, asynchronous units) · `ptx` (text to instructions) ·
//! `tensor` (tensor maps) · `matrix` (mma, wgmma) · `memory` (device memory) · `check` (findings, races) ·
//! `num` (number formats).

pub mod check;
pub mod device;
pub mod driver;
pub mod exec;
pub mod matrix;
pub mod memory;
pub mod num;
pub mod ptx;
pub mod tensor;
