//! CLIP's text encoder (Radford et al. 2021): a causal transformer over 77 tokens, pre-norm, whose last hidden states after the
//! final layer norm condition the UNet.

#[cfg(cuda_kernels)]
pub mod cuda;

use std::path::Path;

use rayon::prelude::*;

use super::layers::Loader;
use super::settings::Settings;
use crate::bail;
use crate::error::Result;
use crate::ops::activation::{gelu, quick_gelu};
use crate::ops::attention::{self, Tokens};
use crate::ops::gemm::Threads;
use crate::ops::layernorm;
use crate::ops::packed::{Packed, Start, linear};
use crate::weights::SafeTensors;

/// Sizes, from `text_encoder/config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub vocab: usize,
    pub width: usize,
    pub mlp: usize,
    pub layers: usize,
    pub heads: usize,
    /// Length of every encoding (77).
    pub tokens: usize,
    pub quick_gelu: bool,
    pub eps: f64,
}

/// Keys of the config that do not change the hidden states.
const IRRELEVANT: [&str; 21] = [
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dropout",
    "dtype",
    "eos_token_id",
    "gradient_checkpointing",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "projection_dim",
    "return_dict",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "chunk_size_feed_forward",
];

impl Config {
    /// Reads and checks `text_encoder/config.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let settings = Settings::open(path)?;
        settings.choice("model_type", &["clip_text_model"])?;
        let this = Self {
            vocab: settings.count("vocab_size", None)?,
            width: settings.count("hidden_size", None)?,
            mlp: settings.count("intermediate_size", None)?,
            layers: settings.layer_count("num_hidden_layers", None)?,
            heads: settings.count("num_attention_heads", None)?,
            tokens: settings.count("max_position_embeddings", Some(77))?,
            quick_gelu: settings.choice("hidden_act", &["quick_gelu", "gelu"])? == "quick_gelu",
            eps: settings.positive("layer_norm_eps", 1e-5)?,
        };
        if !this.width.is_multiple_of(this.heads) {
            return Err(settings.wrong("num_attention_heads", &format!("a divisor of hidden_size {}", this.width)));
        }
        settings.finish(&IRRELEVANT)?;
        Ok(this)
    }

    /// FLOPs (two per multiply-accumulate) of the products and attention of one text; scores of later tokens, which are masked, count.
    pub fn flops(&self) -> f64 {
        let Self { width: d, mlp, tokens, heads, layers, .. } = *self;
        let linears = 2.0 * (tokens * (4 * d * d + 2 * d * mlp)) as f64;
        let shape = attention::Shape { n: 1, queries: tokens, keys: tokens, heads, head_dim: d / heads, causal: true };
        layers as f64 * (linears + shape.flops())
    }

    /// Refuses ids outside the vocabulary and texts of another length.
    fn check(&self, texts: &[&[u32]]) -> Result<()> {
        for ids in texts {
            if ids.len() != self.tokens {
                bail!(Data, "text encoder: a text of {} tokens, expected {}", ids.len(), self.tokens);
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab) {
                bail!(
                    Data,
                    "text encoder: token id {id} is outside its vocabulary of {}; do tokenizer and text_encoder belong together?",
                    self.vocab
                );
            }
        }
        Ok(())
    }
}

/// The encoder with its weights.
#[derive(Debug)]
pub struct ClipText {
    config: Config,
    token_embedding: Vec<f32>,
    position_embedding: Vec<f32>,
    layers: Vec<Layer>,
    final_norm: (Vec<f32>, Vec<f32>),
}

#[derive(Debug)]
struct Layer {
    norm1: (Vec<f32>, Vec<f32>),
    qkv: Packed,
    out: Packed,
    norm2: (Vec<f32>, Vec<f32>),
    fc1: Packed,
    fc2: Packed,
}

/// Whether tensor names begin with `text_model.`.
pub fn is_prefixed(weights: &SafeTensors) -> bool {
    weights.contains("text_model.final_layer_norm.weight")
}

impl ClipText {
    /// Reads the weights; tensor names with or without the prefix `text_model.`.
    pub fn load(config: Config, weights: &SafeTensors) -> Result<Self> {
        let load = Loader { weights };
        let (d, mlp) = (config.width, config.mlp);
        let prefixed = is_prefixed(weights);
        let name = |rest: &str| format!("{}{rest}", if prefixed { "text_model." } else { "" });
        let layer = |i: usize| -> Result<Layer> {
            let name = |rest: &str| name(&format!("encoder.layers.{i}.{rest}"));
            let parts = ["q", "k", "v"].map(|p| load.linear(&name(&format!("self_attn.{p}_proj")), d, d, true));
            let [q, k, v] = parts;
            Ok(Layer {
                norm1: load.affine(&name("layer_norm1"), d)?,
                qkv: Packed::side_by_side(&[&q?, &k?, &v?]),
                out: load.linear(&name("self_attn.out_proj"), d, d, true)?,
                norm2: load.affine(&name("layer_norm2"), d)?,
                fc1: load.linear(&name("mlp.fc1"), d, mlp, true)?,
                fc2: load.linear(&name("mlp.fc2"), mlp, d, true)?,
            })
        };
        Ok(Self {
            token_embedding: weights.f32(&name("embeddings.token_embedding.weight"), &[config.vocab, d])?,
            position_embedding: weights.f32(&name("embeddings.position_embedding.weight"), &[config.tokens, d])?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            final_norm: load.affine(&name("final_layer_norm"), d)?,
            config,
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Values held.
    pub fn values(&self) -> usize {
        let layer =
            |l: &Layer| 4 * self.config.width + l.qkv.values() + l.out.values() + l.fc1.values() + l.fc2.values();
        let embeddings = self.token_embedding.len() + self.position_embedding.len();
        embeddings + self.layers.iter().map(layer).sum::<usize>() + 2 * self.config.width
    }

    /// Hidden states `[T, D]` of each text, given as T token ids. Texts are spread over the threads.
    ///
    /// # Errors
    /// [`crate::error::Error::Data`] for an id outside the vocabulary or a text of another length.
    pub fn encode(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        self.config.check(texts)?;
        Ok(texts.par_iter().map(|ids| self.encode_one(ids)).collect())
    }

    fn encode_one(&self, ids: &[u32]) -> Vec<f32> {
        let Config { width: d, tokens, heads, mlp, eps, .. } = self.config;
        let (eps, one) = (eps as f32, Threads::One);
        let mut x = Vec::with_capacity(tokens * d);
        for (&id, position) in ids.iter().zip(self.position_embedding.chunks_exact(d)) {
            let token = &self.token_embedding[id as usize * d..][..d];
            x.extend(token.iter().zip(position).map(|(t, p)| t + p));
        }
        let shape = attention::Shape { n: 1, queries: tokens, keys: tokens, heads, head_dim: d / heads, causal: true };
        let (mut h, mut qkv, mut f) = (vec![0.0; tokens * d], vec![0.0; tokens * 3 * d], vec![0.0; tokens * mlp]);
        for layer in &self.layers {
            layernorm::infer(&mut h, &x, &layer.norm1.0, &layer.norm1.1, eps, one);
            linear(&mut qkv, &h, &layer.qkv, Start::Bias, one);
            let part = |i: usize| Tokens { data: &qkv[i * d..], stride: 3 * d };
            attention::forward(&mut h, part(0), part(1), part(2), shape, one);
            linear(&mut x, &h, &layer.out, Start::Keep, one);
            layernorm::infer(&mut h, &x, &layer.norm2.0, &layer.norm2.1, eps, one);
            linear(&mut f, &h, &layer.fc1, Start::Bias, one);
            if self.config.quick_gelu {
                quick_gelu(&mut f)
            } else {
                gelu(&mut f)
            }
            linear(&mut x, &f, &layer.fc2, Start::Keep, one);
        }
        layernorm::infer(&mut h, &x, &self.final_norm.0, &self.final_norm.1, eps, one);
        h
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CLIP ViT-L/14's text tower: 6.65 billion multiply-accumulates.
    #[test]
    fn flops_of_clip_large() {
        let config = Config {
            vocab: 49_408,
            width: 768,
            mlp: 3072,
            layers: 12,
            heads: 12,
            tokens: 77,
            quick_gelu: true,
            eps: 1e-5,
        };
        let giga_macs = config.flops() / 2e9;
        assert!((giga_macs - 6.65).abs() < 0.005, "{giga_macs}");
    }
}
