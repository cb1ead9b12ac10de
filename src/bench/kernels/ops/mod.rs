//! The cases: a file per op, which lists its kernels over the models' shapes.

mod attention;
mod augment;
mod batchnorm;
mod contrastive;
mod conv;
mod cross_entropy;
mod e4m3;
mod embed;
mod groupnorm;
mod l2norm;
mod layernorm;
mod linear;
mod optimizer;
mod patch_embed;
mod pixels;
mod reduce;
mod sampler_step;
mod self_attention;

use std::collections::HashSet;

use super::case::{Case, Size};

/// Every case, the generator's ops first.
pub fn all(size: Size) -> Vec<Case> {
    let ops: [fn(Size) -> Vec<Case>; 18] = [
        conv::cases,
        e4m3::cases,
        attention::cases,
        groupnorm::cases,
        embed::cases,
        sampler_step::cases,
        pixels::cases,
        linear::cases,
        self_attention::cases,
        layernorm::cases,
        patch_embed::cases,
        batchnorm::cases,
        l2norm::cases,
        contrastive::cases,
        augment::cases,
        optimizer::cases,
        reduce::cases,
        cross_entropy::cases,
    ];
    let mut all: Vec<Case> = ops.iter().flat_map(|cases| cases(size)).collect();
    if size == Size::Reduced {
        // Cut down, some shapes of the models coincide.
        let mut seen = HashSet::new();
        all.retain(|case| seen.insert(case.title()));
    }
    all
}
