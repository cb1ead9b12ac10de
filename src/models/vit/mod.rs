//! Vision transformer for training (Dosovitskiy et al. 2021), identical to timm 0.5.4's `vit_*_patch16_224` without a
//! classifier: pre-norm blocks (eps 1e-6), one qkv linear with bias, exact GELU, learned positions, class token; its
//! feature is the class token after the last norm. As nothing else of the last block is read, that block computes the
//! class token alone after its keys and values.

mod acts;
mod block;
mod config;
mod file;
mod moco_v3;
mod names;
mod positions;
mod preprocessing;
mod shape;
mod stated;
mod timm;

pub use acts::{VitActs, VitGradients};
pub use config::VitConfig;
pub use file::VitFile;
pub use names::BackboneNames;
pub use preprocessing::{CropMode, Preprocessing};
pub use stated::Stated;

use self::block::Block;
use crate::error::Result;
use crate::layers::training::count::Tally;
use crate::layers::training::{Branch, Buffer, LayerNorm, Layers, Layout, PatchEmbed};
use crate::models::init;
use crate::rng::{Domain, Stream};
use crate::weights::{Param, ParamInfo, ParamTable};

/// Added to the variance of every layer norm.
const LAYER_NORM_EPS: f32 = 1e-6;

/// The places of a ViT's tensors in a flat parameter buffer.
#[derive(Clone, Debug)]
pub struct Vit {
    config: VitConfig,
    tensors: Vec<ParamInfo>,
    prefix: String,
    embedding: PatchEmbed,
    blocks: Vec<Block>,
    norm: LayerNorm,
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
        let w = add("patch_embed.proj.weight", &[d, config.channels, p, p]);
        let b = add("patch_embed.proj.bias", &[d]);
        let blocks = (0..config.depth).map(|i| Block::new(config, &mut |n, s| add(&format!("blocks.{i}.{n}"), s)));
        let blocks = blocks.collect();
        let norm = LayerNorm { affine: [add("norm.weight", &[d]), add("norm.bias", &[d])], eps: LAYER_NORM_EPS };
        let tensors = table.iter().skip(first).cloned().collect();
        let (config, prefix) = (config.clone(), prefix.to_owned());
        Ok(Self { config, tensors, prefix, embedding: PatchEmbed { w, b, cls, pos }, blocks, norm })
    }

    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// timm's initial values: truncated normal of std 0.02 for linear weights, class token and positions, zero biases,
    /// unit norms; PyTorch's default for the patch convolution. Tensor number i of the buffer draws from its own
    /// stream.
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

    /// The features `[N, D]` (in `acts`) of as many of the call's images, the first of which begins at value `start`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward(&self, on: &mut dyn Layers, acts: &VitActs, start: usize) -> Result<()> {
        let (n, shape) = (acts.n, self.config.patch_shape(acts.n));
        on.unfold(acts.patches, start, shape)?;
        // The first block computes its norm only then.
        on.embed(acts.streams[0], acts.patches, acts.blocks[0].norm1, self.embedding, shape)?;
        for (i, block) in self.blocks.iter().enumerate() {
            block.forward(on, acts.streams[i + 1], acts.streams[i], &acts.blocks[i], self.config.block_shape(n, i))?;
        }
        on.layer_norm(acts.features, acts.norm_stats, acts.streams[self.blocks.len()], self.norm)
    }

    /// Adds the gradients of the parameters, given `dfeatures [N, D]`. `acts` are those of the last [`Vit::forward`],
    /// every block's its own ([`VitActs::new`]).
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(&self, on: &mut dyn Layers, acts: &VitActs, back: &VitGradients, dfeatures: Buffer) -> Result<()> {
        let last = (acts.streams[self.blocks.len()], acts.norm_stats);
        on.layer_norm_backward(back.dlast, Branch::None, dfeatures, last, self.norm)?;
        for (i, block) in self.blocks.iter().enumerate().rev() {
            block.backward(on, back, acts.streams[i], &acts.blocks[i], self.config.block_shape(acts.n, i))?;
        }
        on.embed_backward(back.dx, acts.patches, back.dnorm, self.embedding, self.config.patch_shape(acts.n))
    }

    /// FLOPs (two per multiply-accumulate) of the products and attention of one image as computed here, where the last
    /// block ends in the class token; a backward takes twice as many.
    ///
    /// # Errors
    /// None: nothing is computed.
    pub fn flops(&self) -> Result<f64> {
        let mut tally = Tally::default();
        self.forward(&mut tally, &VitActs::new(&mut Layout::default(), &self.config, 1), 0)?;
        Ok(tally.flops())
    }
}
