//! `stablerep bench`: how fast this machine does the work. On the simulated driver, which knows no time, launches and bytes are counted.

#[cfg(cuda_kernels)]
pub mod kernels;
