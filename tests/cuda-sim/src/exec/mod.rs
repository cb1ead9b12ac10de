//! Running a kernel: grid, clusters, blocks, warps, instructions.

mod launch;

pub use launch::{Launch, Options, Stats, launch};
