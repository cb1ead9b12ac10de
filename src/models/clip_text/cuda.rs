//! The text encoder on CUDA.

use super::Config;
use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::models::layers::cuda::{Layer, Weights};
use crate::ops::attention::Shape;
use crate::ops::attention::cuda::{self as attention, Heads};
use crate::ops::conv::cuda::{Activation, Source};
use crate::ops::embed::cuda as embed;
use crate::ops::layernorm::cuda as layernorm;

type Affine = (View<f32>, View<f32>);

/// The encoder with its weights.
#[derive(Clone, Debug)]
pub struct CudaClipText<T> {
    config: Config,
    token_embedding: View<T>,
    position_embedding: View<T>,
    blocks: Vec<Block<T>>,
    final_norm: Affine,
}

#[derive(Clone, Debug)]
struct Block<T> {
    norm1: Affine,
    qkv: Layer<T>,
    out: Layer<T>,
    norm2: Affine,
    fc1: Layer<T>,
    fc2: Layer<T>,
}

/// Activations of up to so many texts.
#[derive(Clone, Copy, Debug)]
pub struct Memory<T> {
    x: View<T>,
    normed: View<T>,
    qkv: View<T>,
    hidden: View<T>,
}

impl<T: Half> CudaClipText<T> {
    /// Places (and packs) the weights; `prefixed` says whether tensor names begin with `text_model.`.
    pub fn load(config: Config, weights: &mut Weights<'_>, prefixed: bool) -> Result<Self> {
        let (d, mlp) = (config.width, config.mlp);
        let name = |rest: &str| format!("{}{rest}", if prefixed { "text_model." } else { "" });
        let activation = if config.quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
        let token_embedding = weights.table(&name("embeddings.token_embedding.weight"), config.vocab, d)?;
        let position_embedding = weights.table(&name("embeddings.position_embedding.weight"), config.tokens, d)?;
        let mut blocks = Vec::new();
        for i in 0..config.layers {
            let name = |rest: &str| name(&format!("encoder.layers.{i}.{rest}"));
            let [q, k, v] = ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj")));
            blocks.push(Block {
                norm1: weights.affine(&name("layer_norm1"), d)?,
                qkv: weights.linear(&[&q, &k, &v], d, 3 * d, true)?,
                out: weights.linear(&[&name("self_attn.out_proj")], d, d, true)?,
                norm2: weights.affine(&name("layer_norm2"), d)?,
                fc1: weights.activated(&name("mlp.fc1"), d, mlp, activation)?,
                fc2: weights.linear(&[&name("mlp.fc2")], mlp, d, true)?,
            });
        }
        let final_norm = weights.affine(&name("final_layer_norm"), d)?;
        Ok(Self { token_embedding, position_embedding, blocks, final_norm, config })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Memory for up to `texts` texts at once.
    pub fn memory(&self, arena: &mut Arena, texts: usize) -> Memory<T> {
        let rows = texts * self.config.tokens;
        let mut take = |name: &str, width: usize| arena.take("text encoder", name, rows * width);
        let d = self.config.width;
        Memory {
            x: take("tokens", d),
            normed: take("normalised", d),
            qkv: take("queries, keys and values", 3 * d),
            hidden: take("hidden values", self.config.mlp),
        }
    }

    /// Hidden states `[texts, tokens, D]` of token ids `[texts, tokens]`, which must be below the vocabulary. They lie in `memory`.
    pub fn encode(&self, gpu: &Gpu, ids: View<u32>, memory: &Memory<T>) -> Result<View<T>> {
        let Config { width: d, tokens, heads, mlp, eps, .. } = self.config;
        let texts = ids.len() / tokens;
        let rows = texts * tokens;
        let of = |view: View<T>, width: usize| Source { x: view.slice(0..rows * width), rows: texts };
        let (x, normed, qkv, hidden) =
            (of(memory.x, d), of(memory.normed, d), of(memory.qkv, 3 * d), of(memory.hidden, mlp));
        let size = (texts, tokens);
        let norm = |(gamma, beta): Affine| layernorm::infer(gpu, normed.x, x.x, gamma, beta, eps as f32, rows, d);
        let shape = Shape { n: texts, queries: tokens, keys: tokens, heads, head_dim: d / heads, causal: true };
        let part = |i: usize| Heads::part(qkv.x, i, 3, d);

        embed::text(gpu, x.x, ids, self.token_embedding, self.position_embedding, (texts, tokens, d))?;
        for block in &self.blocks {
            norm(block.norm1)?;
            block.qkv.linear(gpu, qkv.x, normed, None, size)?;
            attention::forward(gpu, normed.x, part(0), part(1), part(2), shape)?;
            block.out.linear(gpu, x.x, normed, Some(x), size)?;
            norm(block.norm2)?;
            block.fc1.linear(gpu, hidden.x, normed, None, size)?;
            block.fc2.linear(gpu, x.x, hidden, Some(x), size)?;
        }
        norm(self.final_norm)?;
        Ok(normed.x)
    }
}
