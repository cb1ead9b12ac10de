//! Vision transformer for training (Dosovitskiy et al. 2021), identical to timm 0.5.4's `vit_*_patch16_224` without a
//! classifier: pre-norm blocks (eps 1e-6), one qkv linear with bias, exact GELU, learned positions, class token; its
//! feature is the class token after the last norm. As nothing else of the last block is read, that block computes the
//! class token alone after its keys and values. [`Variant`] says what ViTs of other authors have beside.

mod acts;
mod block;
mod config;
mod drop_path;
mod file;
mod gradients;
mod keys;
mod moco_v3;
mod names;
mod naming;
mod open_clip;
mod preprocessing;
mod resolve;
mod shape;
mod sizes;
mod stated;
mod style;
mod timm;
mod told;
mod trunk;
mod variant;
mod whose;

pub use acts::{TrunkActs, VitActs};
pub use config::VitConfig;
pub use drop_path::DropPath;
pub use file::VitFile;
pub use gradients::VitGradients;
pub use names::BackboneNames;
pub use preprocessing::{CropMode, Preprocessing};
pub use shape::Span;
pub use stated::{Stated, StatedText};
pub use style::Style;
pub use trunk::Trunk;
pub use variant::Variant;
pub use whose::Whose;

use crate::bail;
use crate::error::Result;
use crate::layers::training::{Branch, Buffer, Kind, LayerNorm, Layers, Layout, PatchEmbed};
use crate::models::init;
use crate::ops::{interpolate, self_attention};
use crate::rng::{Domain, Stream};
use crate::weights::{Param, ParamInfo, ParamTable};

/// The places of a ViT's tensors in a flat parameter buffer.
#[derive(Clone, Debug)]
pub struct Vit {
    config: VitConfig,
    tensors: Vec<ParamInfo>,
    prefix: String,
    embedding: PatchEmbed,
    norm_pre: Option<LayerNorm>,
    trunk: Trunk,
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
        let registers = config.variant.registers;
        if registers > 0 {
            add("reg_token", &[1, registers, d]);
        }
        // Class token and registers lie side by side.
        let cls = Param { len: config.leading() * d, ..cls };
        let pos = add("pos_embed", &[1, config.tokens(), d]);
        let w = add("patch_embed.proj.weight", &[d, config.channels, p, p]);
        let b = add("patch_embed.proj.bias", &[d]);
        let style = Style::of(config.variant);
        let norm_pre = config.variant.norm_pre.then(|| {
            let affine = ["weight", "bias"].map(|what| add(&format!("norm_pre.{what}"), &[d]));
            LayerNorm { affine, eps: style.eps }
        });
        let trunk = Trunk::new(config, style, &mut add);
        let tensors = table.iter().skip(first).cloned().collect();
        let (config, prefix) = (config.clone(), prefix.to_owned());
        let embedding = PatchEmbed { w, b, cls, pos, resized: None };
        Ok(Self { config, tensors, prefix, embedding, norm_pre, trunk })
    }

    /// The same network over images of `side`, for which [`Vit::resize_positions`] makes positions. Takes room for them
    /// and their gradient.
    ///
    /// # Errors
    /// Usage error if the side is no multiple of the patch, or if there are registers, which have no place in a grid.
    pub fn resized(&self, layout: &mut Layout, side: usize) -> Result<Self> {
        if self.config.variant.registers > 0 {
            bail!(Usage, "a ViT with register tokens has no positions for images of several sizes");
        }
        let config = VitConfig { image_size: side, ..self.config.clone() };
        config.validate()?;
        let mut take = |what: &str| {
            layout.take("activations", format!("{what} of {side}²"), config.tokens() * config.width, Kind::Exact)
        };
        let resized = Some([take("positions"), take("d positions")]);
        Ok(Self { embedding: PatchEmbed { resized, ..self.embedding }, config, ..self.clone() })
    }

    /// The positions of a network over other images than it has positions for, before its forwards of a step; their
    /// gradient is 0 then.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn resize_positions(&self, on: &mut dyn Layers) -> Result<()> {
        let PatchEmbed { pos, resized, .. } = self.embedding;
        resized.map_or(Ok(()), |to| on.resize_positions(to, pos, self.interpolation()))
    }

    /// Adds the gradient of the positions, behind the backwards of the step.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn resize_positions_backward(&self, on: &mut dyn Layers) -> Result<()> {
        let PatchEmbed { pos, resized, .. } = self.embedding;
        resized.map_or(Ok(()), |[_, dy]| on.resize_positions_backward(pos, dy, self.interpolation()))
    }

    /// From the grid of the positions there are to that of its images.
    fn interpolation(&self) -> interpolate::Shape {
        let VitConfig { image_size, patch_size, width: d, .. } = self.config;
        let from = (self.embedding.pos.len / d - 1).isqrt();
        interpolate::Shape { from, to: image_size / patch_size, d }
    }

    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// The places of what makes tokens of images.
    pub fn embedding(&self) -> PatchEmbed {
        self.embedding
    }

    /// What is behind the embedding.
    pub fn trunk(&self) -> &Trunk {
        &self.trunk
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
                "cls_token" | "reg_token" | "pos_embed" => stream.fill_trunc_normal(values, 0.02),
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
        self.embed(on, acts, start)?;
        self.trunk.forward(on, &acts.trunk)
    }

    /// The tokens of as many of the call's images.
    fn embed(&self, on: &mut dyn Layers, acts: &VitActs, start: usize) -> Result<()> {
        let (trunk, shape) = (&acts.trunk, self.config.patch_shape(acts.trunk.span.n));
        on.unfold(acts.patches, start, shape)?;
        let Some((norm, [tokens, stats])) = self.norm_pre.zip(acts.before_norm) else {
            return on.embed(trunk.input(), acts.patches, trunk.spare(), self.embedding, shape);
        };
        on.embed(tokens, acts.patches, trunk.spare(), self.embedding, shape)?;
        on.layer_norm(trunk.input(), stats, tokens, norm)
    }

    /// Adds the gradients of the parameters, given `dfeatures [N, D]`. `acts` are those of the last [`Vit::forward`],
    /// every block's its own ([`VitActs::new`]).
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward(&self, on: &mut dyn Layers, acts: &VitActs, back: &VitGradients, dfeatures: Buffer) -> Result<()> {
        self.trunk.backward(on, &acts.trunk, back, dfeatures)?;
        self.embed_backward(on, acts, back)
    }

    fn embed_backward(&self, on: &mut dyn Layers, acts: &VitActs, back: &VitGradients) -> Result<()> {
        let shape = self.config.patch_shape(acts.trunk.span.n);
        let Some((norm, at)) = self.norm_pre.zip(acts.before_norm) else {
            return on.embed_backward(back.dx, acts.patches, back.dnorm, self.embedding, shape);
        };
        on.layer_norm_backward(back.dnorm, Branch::None, back.dx, at.into(), norm)?;
        on.embed_backward(back.dnorm, acts.patches, back.dx, self.embedding, shape)
    }

    /// What the attention of block `block` read in the last forward, `[N, T, 3, G, d]`, and its sizes; of earlier
    /// blocks only where each has buffers of its own ([`VitActs::new`]).
    pub fn attended(&self, acts: &VitActs, block: usize) -> (Buffer, self_attention::Shape) {
        let shape = self.config.block_shape(acts.trunk.span, block);
        (acts.trunk.blocks[block].heads, shape.attention())
    }

    /// What leaves the last block ([`VitActs::output`]), for activations of [`VitActs::of_tokens`].
    ///
    /// # Errors
    /// As the device's layers.
    pub fn forward_tokens(&self, on: &mut dyn Layers, acts: &VitActs, start: usize) -> Result<()> {
        self.embed(on, acts, start)?;
        self.trunk.forward_blocks(on, &acts.trunk)
    }

    /// As [`Vit::backward_tokens`], where the tokens behind several blocks were read ([`VitActs::after`]): `join` is
    /// told how many blocks are before those whose gradient is in [`VitGradients::of_input`] now, and adds its own;
    /// behind the last block it is the first to write there.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward_tapped(
        &self,
        on: &mut dyn Layers,
        acts: &VitActs,
        back: &VitGradients,
        join: &mut dyn FnMut(&mut dyn Layers, usize) -> Result<()>,
    ) -> Result<()> {
        self.trunk.backward_tapped(on, &acts.trunk, back, join)?;
        self.embed_backward(on, acts, back)
    }

    /// Adds the gradients of the parameters, where that of [`VitActs::output`] is in [`VitGradients::of_input`].
    ///
    /// # Errors
    /// As the device's layers.
    pub fn backward_tokens(&self, on: &mut dyn Layers, acts: &VitActs, back: &VitGradients) -> Result<()> {
        self.trunk.backward_blocks(on, &acts.trunk, back)?;
        self.embed_backward(on, acts, back)
    }
}
