//! The CUDA kernels on a simulated driver: the unmodified binary, loading `libcuda.so.1` of the crate in `tests/cuda-sim`.
//!
//! Every check of `stablerep selftest` runs on a simulated Hopper and a simulated Ampere device, with different seeds for inputs and
//! for the simulator's order of warps and copies. `CUDA_SIM_SEED` in the environment replays one order.
//! Without NVRTC the binary has no kernels, and these tests say so and do nothing.

mod bench;
#[cfg(cuda_kernels)]
mod compiler;
mod errors;
#[cfg(cuda_kernels)]
mod formats;
mod fp8;
mod generate;
#[path = "../common/process.rs"]
mod process;
mod run;
mod support;
mod train;

use support::{Model, full_size, selftest};

/// What only Ada, Hopper and newer have, on Ada; and the trainer's ops, because a consumer card's block has 99 KB of
/// shared memory.
mod on_ada {
    use super::*;

    #[test]
    fn e4m3() {
        selftest("e4m3", Model::Rtx4090);
    }

    #[test]
    fn contrastive() {
        selftest("contrastive", Model::Rtx4090);
    }

    #[test]
    fn augment() {
        selftest("augment", Model::Rtx4090);
    }

    /// All else that trains.
    #[test]
    fn trainer() {
        for op in ["batchnorm", "cross_entropy", "l2norm", "layernorm", "linear", "optimizer", "patch_embed", "reduce"]
        {
            selftest(op, Model::Rtx4090);
        }
    }

    #[test]
    fn gemm() {
        selftest("gemm", Model::Rtx4090);
    }

    #[test]
    fn self_attention() {
        selftest("self_attention", Model::Rtx4090);
    }
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

/// 25 s of one core, and 12 s for what the portable kernels are asked for.
mod at_full_size {
    use super::*;

    #[test]
    fn attention_on_hopper() {
        full_size("attention", Model::H200);
    }

    #[test]
    fn attention_on_ampere() {
        full_size("attention", Model::A100);
    }

    #[test]
    fn conv_on_hopper() {
        full_size("conv", Model::H200);
    }

    #[test]
    fn conv_on_ampere() {
        full_size("conv, 3×3", Model::A100);
    }

    #[test]
    fn groupnorm_on_hopper() {
        full_size("groupnorm", Model::H200);
    }

    #[test]
    fn groupnorm_on_ampere() {
        full_size("groupnorm", Model::A100);
    }
}
