//! CLIP's text encoder (Radford et al. 2021): a causal transformer over 77 tokens, pre-norm, whose last hidden states
//! after the final layer norm condition the UNet.

use std::path::Path;

use super::settings::Settings;
use crate::bail;
use crate::error::Result;
use crate::layers::count::{Count, Processor, Rooms, Tally};
use crate::layers::{Backend, Layers, Load, Slot, Tensor};
use crate::ops::activation::Activation;
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

    /// What encoding `texts` texts at once takes.
    fn count(&self, processor: Processor, texts: usize) -> Result<Tally> {
        let mut tally = Tally::new(processor, self.tokens);
        ClipText::<Count>::load(self.clone(), false, &mut Count)?.encode(&mut tally, texts)?;
        Ok(tally)
    }

    /// FLOPs (two per multiply-accumulate) of the products and attention of one text; scores of later tokens, which are
    /// masked, count.
    pub fn flops(&self) -> Result<f64> {
        Ok(self.count(Processor::Cpu, 1)?.flops)
    }

    /// The memory of calls of up to `texts` texts.
    pub fn rooms(&self, processor: Processor, texts: usize) -> Result<Rooms> {
        Ok(self.count(processor, texts)?.rooms)
    }

    /// Refuses ids outside the vocabulary and texts of another length.
    ///
    /// # Errors
    /// [`crate::error::Error::Data`] that names what is wrong.
    pub fn check(&self, texts: &[&[u32]]) -> Result<()> {
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

/// Whether tensor names begin with `text_model.`.
pub fn is_prefixed(weights: &SafeTensors) -> bool {
    weights.contains("text_model.final_layer_norm.weight")
}

/// The encoder with its weights.
#[derive(Debug)]
pub struct ClipText<B: Backend> {
    config: Config,
    tokens: B::Table,
    positions: B::Table,
    blocks: Vec<Block<B>>,
    final_norm: B::LayerNorm,
}

#[derive(Debug)]
struct Block<B: Backend> {
    norm1: B::LayerNorm,
    qkv: B::Linear,
    out: B::Linear,
    norm2: B::LayerNorm,
    fc1: B::Linear,
    fc2: B::Linear,
}

impl<B: Backend> ClipText<B> {
    /// Reads the weights; `prefixed` says whether tensor names begin with `text_model.`.
    pub fn load(config: Config, prefixed: bool, from: &mut impl Load<B>) -> Result<Self> {
        let (d, mlp) = (config.width, config.mlp);
        let name = |rest: &str| format!("{}{rest}", if prefixed { "text_model." } else { "" });
        let activation = if config.quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
        let tokens = from.table(&name("embeddings.token_embedding.weight"), config.vocab, d)?;
        let positions = from.table(&name("embeddings.position_embedding.weight"), config.tokens, d)?;
        let mut blocks = Vec::new();
        for i in 0..config.layers {
            let name = |rest: &str| name(&format!("encoder.layers.{i}.{rest}"));
            let [q, k, v] = ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj")));
            blocks.push(Block {
                norm1: from.layer_norm(&name("layer_norm1"), d, config.eps)?,
                qkv: from.linear(&[&q, &k, &v], (d, 3 * d), true, Activation::None)?,
                out: from.linear(&[&name("self_attn.out_proj")], (d, d), true, Activation::None)?,
                norm2: from.layer_norm(&name("layer_norm2"), d, config.eps)?,
                fc1: from.linear(&[&name("mlp.fc1")], (d, mlp), true, activation)?,
                fc2: from.linear(&[&name("mlp.fc2")], (mlp, d), true, Activation::None)?,
            });
        }
        let final_norm = from.layer_norm(&name("final_layer_norm"), d, config.eps)?;
        Ok(Self { config, tokens, positions, blocks, final_norm })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Hidden states `[texts, T, D]` of the call's token ids, which must be below the vocabulary ([`Config::check`]).
    ///
    /// # Errors
    /// As the device's layers.
    pub fn encode(&self, on: &mut impl Layers<B>, texts: usize) -> Result<Tensor> {
        let Config { width: d, tokens, heads, mlp, .. } = self.config;
        let of = |slot: Slot, channels: usize| Tensor { slot, rows: texts, size: (1, tokens), channels };
        let x = of(Slot::Tokens, d);
        let (attended, qkv, hidden) = (of(Slot::Attended, d), of(Slot::Wide, 3 * d), of(Slot::Wide, mlp));
        on.embed(x, &self.tokens, &self.positions)?;
        for block in &self.blocks {
            on.normed_linear(qkv, &block.qkv, x, &block.norm1)?;
            on.attention(attended, qkv, heads, true)?;
            on.linear(x, &block.out, attended, Some(x))?;
            on.normed_linear(hidden, &block.fc1, x, &block.norm2)?;
            on.linear(x, &block.fc2, hidden, Some(x))?;
        }
        on.layer_norm(attended, x, &self.final_norm)?;
        Ok(attended)
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
        let giga_macs = config.flops().unwrap() / 2e9;
        assert!((giga_macs - 6.65).abs() < 0.005, "{giga_macs}");
    }
}
