//! Running a kernel: grid, clusters, blocks, warps, instructions.

mod access;
mod alu;
mod atomic;
mod barrier;
mod collective;
mod compare;
mod helpers;
mod intrinsic;
mod launch;
mod machine;
mod matrix;
mod registers;
mod run;
mod shared;
mod special;
mod units;
mod warp;

pub use launch::{Launch, Options, Stats, launch};
