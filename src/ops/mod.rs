//! Maths on buffers: one folder per op, with its shape checks, its CPU implementation forward and backward and its
//! FLOPs (`mod.rs`), its launches (`cuda`), their check against the CPU (`check.rs`) and what is measured of them
//! (`bench.rs`). Ops without kernels are one file.
//!
//! A new op is its folder, its `kernels/*.cu` and its line below: `stablerep selftest` and `bench kernels` find every
//! `check.rs` and `bench.rs` here by themselves.
//!
//! Conventions of every op:
//! - destination first, then inputs; a gradient of `x` is `dx`;
//! - matrices are row-major; images are NHWC, tokens `[N, T, D]`;
//! - gradients of parameters are *added to* (a head may run several times per step), gradients of activations are
//!   overwritten;
//! - reductions run in an order fixed by the shape alone: chunk sizes are constants, never derived from the thread
//!   count.

pub mod activation;
pub mod add;
pub mod attention;
pub mod augment;
pub mod batchnorm;
#[cfg(cuda_kernels)]
pub mod bench;
pub mod bilinear;
pub mod blur;
#[cfg(cuda_kernels)]
pub mod check;
pub mod clip;
pub mod contrastive;
pub mod conv;
pub mod conv2d;
pub mod convert;
pub mod cosine;
pub mod cross_entropy;
pub mod distill;
pub mod drop_channels;
pub mod drop_path;
#[cfg(cuda_kernels)]
pub mod e4m3;
pub mod embed;
pub mod erase;
pub mod gelu;
pub mod gemm;
pub mod grid_pool;
pub mod groupnorm;
#[cfg(cuda_kernels)]
pub mod halves;
pub mod interpolate;
pub mod jitter;
pub mod l2norm;
pub mod lars;
pub mod layernorm;
pub mod linear;
pub mod logit_scale;
#[cfg(cuda_kernels)]
mod maps;
pub mod math;
pub mod max_pool;
pub mod mix;
pub mod neighbourhood;
pub mod optimizer;
pub mod packed;
pub mod pairs;
pub mod patch_embed;
pub mod patch_loss;
pub mod photometric;
pub mod pixel_loss;
pub mod pixels;
pub mod pool;
pub mod qk_norm;
pub mod queue;
pub mod rand_augment;
pub mod reduce;
pub mod relu;
pub mod rows;
pub mod sampler_step;
pub mod self_attention;
#[cfg(cuda_kernels)]
pub mod shapes;
pub mod simd;
pub mod soft_labels;
pub mod spread;
pub mod squares;
pub mod symmetric;
pub mod token_mean;
