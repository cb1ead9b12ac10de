//! Maths on buffers: one file per op, with its shape checks, its CPU implementation forward and backward, its FLOPs and bytes.
//!
//! Conventions of every op:
//! - destination first, then inputs; a gradient of `x` is `dx`;
//! - matrices are row-major; images are NHWC, tokens `[N, T, D]`;
//! - gradients of parameters are *added to* (a head may run several times per step), gradients of activations are overwritten;
//! - reductions run in an order fixed by the shape alone: chunk sizes are constants, never derived from the thread count.

pub mod activation;
pub mod attention;
pub mod augment;
pub mod batchnorm;
pub mod blur;
pub mod contrastive;
pub mod conv;
pub mod convert;
pub mod cross_entropy;
pub mod embed;
pub mod gelu;
pub mod gemm;
pub mod groupnorm;
pub mod jitter;
pub mod l2norm;
pub mod layernorm;
pub mod linear;
pub mod math;
pub mod optimizer;
pub mod packed;
pub mod patch_embed;
pub mod pixels;
pub mod reduce;
pub mod relu;
pub mod sampler_step;
pub mod self_attention;
pub mod simd;
