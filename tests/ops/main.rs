//! Ops against references: f64 formulas, goldens of the field's libraries, central differences.

mod attention;
mod batchnorm;
mod clip;
mod contrastive;
mod conv;
mod cross_entropy;
mod gemm;
mod groupnorm;
mod layernorm;
mod linear;
mod map_gradients;
mod maps;
mod pairs;
mod pointwise;
mod pytorch;
mod qk_norm;
mod rand_augment;
mod self_attention;
mod soft_labels;
mod support;
mod training_small;
