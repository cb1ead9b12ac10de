//! The CUDA kernels on a simulated driver: the unmodified binary, loading `libcuda.so.1` of the crate in
//! `tests/cuda-sim`.
//!
//! Every check of `stablerep selftest` runs on a simulated Hopper and a simulated Ampere device, with different seeds
//! for inputs and for the simulator's order of warps and copies. `CUDA_SIM_SEED` in the environment replays one order.
//! Without NVRTC the binary has no kernels, and these tests say so and do nothing.

mod bench;
#[cfg(cuda_kernels)]
mod compiler;
mod encoders;
mod errors;
mod eval;
mod finetune;
#[cfg(cuda_kernels)]
mod formats;
mod fp8;
mod generate;
mod inception;
#[path = "../common/labelled.rs"]
mod labelled;
mod language;
mod mae;
mod methods;
#[path = "../common/overflow.rs"]
mod overflow;
#[path = "../common/process.rs"]
mod process;
mod run;
#[path = "../common/scenes.rs"]
mod scenes;
mod segment;
mod signals;
mod support;
mod train;

use support::{Model, full_size, has_kernels, selftest};

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
        let ops = ["batchnorm", "convert", "cross_entropy", "l2norm", "layernorm", "linear", "optimizer"];
        for op in ops.into_iter().chain([
            "bilinear",
            "clip",
            "conv2d",
            "cosine",
            "distill",
            "drop_channels",
            "drop_path",
            "grid_pool",
            "interpolate",
            "lars",
            "max_pool",
            "neighbourhood",
            "pairs",
            "patch_embed",
            "patch_loss",
            "pixel_loss",
            "pool",
            "qk_norm",
            "queue",
            "reduce",
            "rows",
            "soft_labels",
            "spread",
            "token_mean",
        ]) {
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

/// What depends on the number of multiprocessors: clusters that take one tile, item or share of work after the other.
/// Convolutions are in the pictures that every Hopper draws alike.
mod on_fewer_multiprocessors {
    use super::*;

    #[test]
    fn attention() {
        full_size("attention of 256 tokens", Model::H100Pcie);
    }

    #[test]
    fn gemm() {
        selftest("gemm", Model::H100Pcie);
    }

    #[test]
    fn linear() {
        selftest("linear", Model::H100Pcie);
    }

    #[test]
    fn self_attention() {
        selftest("self-attention, few tokens ask", Model::H100Pcie);
    }
}

/// No document says how wgmma reads part of a span of V: where it is not as hoped, the kernels that do without are
/// used.
#[test]
fn attention_where_whole_spans_alone_are_read() {
    if !has_kernels() {
        return;
    }
    for (model, own, spans) in [
        (Model::H200, "used on this card", "not needed on this card"),
        (Model::WholeSpans, "wrong on this card, so not used", "used on this card, which is slower but right"),
    ] {
        let text = selftest("attention, V", model);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("attention, V")).collect();
        assert!(matches!(lines[..], [a, b] if a.contains(own) && b.contains(spans)), "{model:?}: {text}");
    }
    selftest("attention, heads of the UNet, f16", Model::WholeSpans);
}

macro_rules! checked_ops {
    ($($op:ident)*) => {
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

include!(concat!(env!("OUT_DIR"), "/checked_ops.rs"));

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
