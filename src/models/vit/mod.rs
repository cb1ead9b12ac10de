//! Vision transformer for training (Dosovitskiy et al. 2021), identical to timm 0.5.4's `vit_*_patch16_224` without a classifier:
//! pre-norm blocks (eps 1e-6), one qkv linear with bias, exact GELU, learned positions, class token; its feature is the class token
//! after the last norm. As nothing else of the last block is read, that block computes the class token alone after its keys and values.

mod acts;
mod block;
#[cfg(cuda_kernels)]
mod block_cuda;
mod config;
#[cfg(cuda_kernels)]
pub mod cuda;
mod file;
mod preprocessing;
mod timm;

pub use acts::VitActs;
pub use config::VitConfig;
pub use file::{Stated, VitFile};
pub use preprocessing::{CropMode, Preprocessing};

use self::acts::Streams;
use self::block::{Block, BlockActs, BlockShape};
use crate::device::Plan;
use crate::error::Result;
use crate::models::init;
use crate::ops::patch_embed::{self, Gradients, Weights};
use crate::ops::{layernorm, linear};
use crate::rng::{Domain, Stream};
use crate::weights::{Param, ParamInfo, ParamTable, pair_mut};

/// Epsilon of every layer norm.
const EPS: f32 = 1e-6;
/// Images per pass of [`Vit::features`].
const FEATURE_BATCH: usize = 32;

/// The places of a ViT's tensors in a flat parameter buffer.
#[derive(Clone, Debug)]
pub struct Vit {
    config: VitConfig,
    tensors: Vec<ParamInfo>,
    prefix: String,
    cls: Param,
    pos: Param,
    patch_w: Param,
    patch_b: Param,
    blocks: Vec<Block>,
    norm_w: Param,
    norm_b: Param,
}

impl Vit {
    /// Appends the tensors, named `prefix` + timm's name, to `table`.
    ///
    /// # Errors
    /// Usage error if the sizes do not fit each other ([`VitConfig::validate`]).
    pub fn new(config: &VitConfig, prefix: &str, table: &mut ParamTable) -> Result<Self> {
        config.validate()?;
        let (d, p) = (config.width, config.patch_size);
        let first = table.iter().count();
        let mut add = |name: &str, shape: &[usize]| table.add(format!("{prefix}{name}"), shape);
        let cls = add("cls_token", &[1, 1, d]);
        let pos = add("pos_embed", &[1, config.tokens(), d]);
        let patch_w = add("patch_embed.proj.weight", &[d, config.channels, p, p]);
        let patch_b = add("patch_embed.proj.bias", &[d]);
        let blocks = (0..config.depth).map(|i| Block::new(config, &mut |n, s| add(&format!("blocks.{i}.{n}"), s)));
        let blocks = blocks.collect();
        let norm_w = add("norm.weight", &[d]);
        let norm_b = add("norm.bias", &[d]);
        let tensors = table.iter().skip(first).cloned().collect();
        let (config, prefix) = (config.clone(), prefix.to_owned());
        Ok(Self { config, tensors, prefix, cls, pos, patch_w, patch_b, blocks, norm_w, norm_b })
    }

    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// timm's initial values: truncated normal of std 0.02 for linear weights, class token and positions, zero biases, unit norms;
    /// PyTorch's default for the patch convolution. Tensor number i of the buffer draws from its own stream.
    pub fn init(&self, params: &mut [f32], seed: u64) {
        for (i, info) in self.tensors.iter().enumerate() {
            let values = info.param.of_mut(params);
            let mut stream = Stream::new(seed, Domain::Init, [i as u32, 0, 0]);
            let name = &info.name[self.prefix.len()..];
            match name {
                "patch_embed.proj.weight" | "patch_embed.proj.bias" => {
                    init::uniform_fan_in(values, &mut stream, self.config.patch_shape(1).patch_len());
                }
                "cls_token" | "pos_embed" => stream.fill_trunc_normal(values, 0.02),
                _ if name.contains("norm") => values.fill(if name.ends_with("weight") { 1.0 } else { 0.0 }),
                _ if name.ends_with("bias") => values.fill(0.0),
                _ => stream.fill_trunc_normal(values, 0.02),
            }
        }
    }

    /// This network's tensors: timm's name without the prefix, shape, place.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Param)> {
        self.tensors.iter().map(|info| (&info.name[self.prefix.len()..], info.shape.as_slice(), info.param))
    }

    fn shape(&self, n: usize, block: usize) -> BlockShape {
        let tokens = self.config.tokens();
        let queries = if block + 1 == self.config.depth { 1 } else { tokens };
        let (width, heads, hidden) = (self.config.width, self.config.heads, self.config.hidden());
        BlockShape { n, tokens, queries, width, heads, hidden }
    }

    /// The features `[N, D]` (in `acts`) of normalised images `[N, H, W, 3]`; keeps what [`Vit::backward`] needs.
    pub fn forward(&self, params: &[f32], acts: &mut VitActs, images: &[f32]) {
        let n = acts.n;
        self.embed(params, &mut acts.patches, &mut acts.streams.x[0], images, n);
        for (i, block) in self.blocks.iter().enumerate() {
            let (x, y) = acts.streams.input_and_output(i);
            block.forward(params, y, x, &mut acts.blocks[i], self.shape(n, i));
        }
        self.final_norm(params, &mut acts.features, &mut acts.norm_stats, &acts.streams.last);
    }

    /// Adds to `grads` the gradients of the parameters, given `dfeatures [N, D]`. `acts` are those of the last [`Vit::forward`].
    pub fn backward(&self, params: &[f32], grads: &mut [f32], acts: &mut VitActs, dfeatures: &[f32]) {
        let n = acts.n;
        let back = &mut acts.back;
        back.dlast.fill(0.0);
        let (dgamma, dbeta) = pair_mut(grads, self.norm_w, self.norm_b);
        let gamma = self.norm_w.of(params);
        layernorm::backward(&mut back.dlast, dgamma, dbeta, dfeatures, &acts.streams.last, &acts.norm_stats, gamma);
        for (i, block) in self.blocks.iter().enumerate().rev() {
            block.backward(params, grads, back, &acts.streams.x[i], &acts.blocks[i], self.shape(n, i));
        }
        let shape = self.config.patch_shape(n);
        let end = self.patch_b.offset + self.patch_b.len;
        let (cls, rest) = grads[self.cls.offset..end].split_at_mut(self.cls.len);
        let (pos, rest) = rest.split_at_mut(self.pos.len);
        let (w, b) = rest.split_at_mut(self.patch_w.len);
        let scratch = &mut back.dnorm[..n * shape.patches() * shape.dim];
        patch_embed::backward(Gradients { w, b, cls, pos }, scratch, &back.dx, &acts.patches, shape);
    }

    /// Counts in a dry plan what [`Vit::features`] of `images` images allocates.
    pub fn feature_memory(&self, plan: &mut Plan, images: usize) {
        self.feature_acts(plan, images);
    }

    /// Patches, streams, and one block's activations of each of the two sizes.
    fn feature_acts(&self, plan: &mut Plan, images: usize) -> (Vec<f32>, Streams, Vec<BlockActs>) {
        let (group, batch, last) = ("encoder", FEATURE_BATCH.min(images), self.config.depth - 1);
        let patch = self.config.patch_shape(batch);
        let patches = plan.f32(group, "patches", batch * patch.patches() * patch.patch_len());
        let streams = Streams::new(plan, group, &self.config, batch, 2);
        let acts = (last.saturating_sub(1)..=last)
            .map(|i| BlockActs::new(plan, group, &format!("blocks.{i}"), self.shape(batch, i)))
            .collect();
        (patches, streams, acts)
    }

    /// The features `[N, D]` of normalised images `[N, H, W, 3]`, without keeping activations.
    pub fn features(&self, params: &[f32], images: &[f32]) -> Vec<f32> {
        let pixels = self.config.image_len();
        assert!(images.len().is_multiple_of(pixels), "features: {} values are no images of {pixels}", images.len());
        let batch = FEATURE_BATCH.min(images.len() / pixels);
        let patch = self.config.patch_shape(batch);
        let (mut patches, mut streams, mut acts) = self.feature_acts(&mut Plan::new(), batch);
        let last = self.config.depth - 1;
        let mut features = vec![0.0; images.len() / pixels * self.config.width];
        let mut stats = vec![0.0; 2 * batch];
        for (features, images) in features.chunks_mut(batch * self.config.width).zip(images.chunks(batch * pixels)) {
            let n = images.len() / pixels;
            streams.truncate(&self.config, n);
            patches.truncate(n * patch.patches() * patch.patch_len());
            self.embed(params, &mut patches, &mut streams.x[0], images, n);
            for (i, block) in self.blocks.iter().enumerate() {
                let shape = self.shape(n, i);
                let acts = if i == last { acts.last_mut() } else { acts.first_mut() };
                let Some(acts) = acts else { continue };
                acts.truncate(shape);
                let (x, y) = streams.input_and_output_in_turn(i, last);
                block.forward(params, y, x, acts, shape);
            }
            self.final_norm(params, features, &mut stats[..2 * n], &streams.last);
        }
        features
    }

    fn embed(&self, params: &[f32], patches: &mut [f32], tokens: &mut [f32], images: &[f32], n: usize) {
        let shape = self.config.patch_shape(n);
        patch_embed::unfold(patches, images, shape);
        let [w, b, cls, pos] = [self.patch_w, self.patch_b, self.cls, self.pos].map(|p| p.of(params));
        patch_embed::forward(tokens, patches, Weights { w, b, cls, pos }, shape);
    }

    fn final_norm(&self, params: &[f32], y: &mut [f32], stats: &mut [f32], x: &[f32]) {
        layernorm::forward(y, stats, x, self.norm_w.of(params), self.norm_b.of(params), EPS);
    }

    /// FLOPs of the matrix products of one image, forward; the backward takes twice as many.
    pub fn flops(&self) -> f64 {
        let blocks = (0..self.config.depth).map(|i| {
            let shape = self.shape(1, i);
            let linears: f64 = shape.linears().into_iter().map(linear::Shape::flops).sum();
            linears + shape.attention().flops().0
        });
        self.config.patch_shape(1).flops().0 + blocks.sum::<f64>()
    }
}
