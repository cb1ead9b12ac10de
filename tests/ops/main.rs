//! Ops against references: f64 formulas, goldens of the field's libraries, central differences.

mod batchnorm;
mod contrastive;
mod gemm;
mod layernorm;
mod linear;
mod pytorch;
mod self_attention;
mod support;
mod training_small;
