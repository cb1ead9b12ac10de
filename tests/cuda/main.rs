//! The CUDA kernels on a simulated driver: the unmodified binary, loading `libcuda.so.1` of the crate in `tests/cuda-sim`.
//!
//! Every check of `stablerep selftest` runs on a simulated Hopper and a simulated Ampere device, with different seeds for inputs and
//! for the simulator's order of warps and copies. `CUDA_SIM_SEED` in the environment replays one order.
//! Without nvcc the binary has no kernels, and these tests say so and do nothing.

mod bench;
mod errors;
mod generate;
mod run;
mod support;
mod train;

use support::{Model, selftest};

/// What only Ada, Hopper and newer have, on Ada, and what it runs of the rest.
#[test]
fn e4m3_on_ada() {
    selftest("e4m3", Model::Rtx4090);
}

macro_rules! ops {
    ($($op:ident),* $(,)?) => {
        $(
            mod $op {
                use super::*;

                #[test]
                fn on_hopper() {
                    selftest(stringify!($op), Model::H200);
                }

                #[test]
                fn on_ampere() {
                    selftest(stringify!($op), Model::A100);
                }
            }
        )*
    };
}

ops! {
    attention,
    augment,
    batchnorm,
    contrastive,
    conv,
    cross_entropy,
    e4m3,
    embed,
    gemm,
    groupnorm,
    l2norm,
    layernorm,
    linear,
    optimizer,
    patch_embed,
    pixels,
    reduce,
    sampler_step,
    self_attention,
}
