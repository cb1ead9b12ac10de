//! Decoder of `AutoencoderKL` (Rombach et al. 2022): latent `[N, h, w, 4]` to image `[N, H, W, 3]` in about [-1, 1],
//! NHWC.

use std::path::Path;

use serde_json::Value;

use super::settings::Settings;
use crate::error::Result;
use crate::layers::count::{Count, Processor, Rooms, Tally};
use crate::layers::{Backend, Layers, Load, ResNet, Resolution, Size, Slot, Tensor};
use crate::ops::activation::Activation;
use crate::weights::SafeTensors;

/// Epsilon of the group norms: a constant of diffusers, not in the config.
const EPS: f64 = 1e-6;

/// Sizes, from `vae/config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub latent_channels: usize,
    pub out_channels: usize,
    pub channels: Vec<usize>,
    /// Residual blocks per level of the encoder (the decoder has one more).
    pub layers: usize,
    pub groups: usize,
    /// Latents are divided by this before they are decoded.
    pub scaling_factor: f64,
    post_quant: bool,
    attention: bool,
}

/// Keys that concern the encoder, training or precision.
const IRRELEVANT: [&str; 5] = ["down_block_types", "force_upcast", "in_channels", "sample_size", "use_quant_conv"];

impl Config {
    /// Reads and checks `vae/config.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let s = Settings::open(path)?;
        let channels = s.list("block_out_channels")?;
        let types = s.names("up_block_types", channels.len())?;
        if let Some(other) = types.iter().find(|name| **name != "UpDecoderBlock2D") {
            return Err(s.wrong("up_block_types", &format!("UpDecoderBlock2D only (not `{other}`)")));
        }
        s.choice("_class_name", &["AutoencoderKL"])?;
        let this = Self {
            latent_channels: s.count("latent_channels", Some(4))?,
            out_channels: s.count("out_channels", Some(3))?,
            layers: s.layer_count("layers_per_block", Some(1))?,
            groups: s.count("norm_num_groups", Some(32))?,
            scaling_factor: s.number("scaling_factor", 0.18215)?,
            post_quant: s.flag("use_post_quant_conv", true)?,
            attention: s.flag("mid_block_add_attention", true)?,
            channels,
        };
        if let Some(c) = this.channels.iter().find(|c| !c.is_multiple_of(this.groups)) {
            return Err(s.wrong("norm_num_groups", &format!("a divisor of {c} channels")));
        }
        if this.scaling_factor <= 0.0 {
            return Err(s.wrong("scaling_factor", "a positive number"));
        }
        s.choice("act_fn", &["silu", "swish"])?;
        for key in ["latents_mean", "latents_std", "shift_factor"] {
            s.only(key, Value::Null)?;
        }
        s.finish(&IRRELEVANT)?;
        Ok(this)
    }

    /// Image pixels per latent pixel and axis.
    pub fn factor(&self) -> usize {
        1 << (self.channels.len() - 1)
    }

    /// What decoding `n` latents of `size` at once takes.
    fn count(&self, processor: Processor, n: usize, size: Size) -> Result<Tally> {
        let mut tally = Tally::new(processor, 0);
        Decoder::<Count>::load(self.clone(), false, &mut Count)?.decode(&mut tally, n, size)?;
        Ok(tally)
    }

    /// FLOPs (two per multiply-accumulate) of the products, convolutions and attention that decode one latent of
    /// `size`.
    pub fn flops(&self, size: Size) -> Result<f64> {
        Ok(self.count(Processor::Cpu, 1, size)?.flops)
    }

    /// The memory of calls of up to `n` latents of `size`.
    pub fn rooms(&self, processor: Processor, n: usize, size: Size) -> Result<Rooms> {
        Ok(self.count(processor, n, size)?.rooms)
    }
}

/// Whether the attention's tensors have their names of 2022.
pub fn has_old_names(weights: &SafeTensors) -> bool {
    weights.contains("decoder.mid_block.attentions.0.query.weight")
}

/// The decoder with its weights.
#[derive(Debug)]
pub struct Decoder<B: Backend> {
    config: Config,
    post_quant: Option<B::Linear>,
    conv_in: B::Conv,
    mid: [ResNet<B>; 2],
    attention: Option<Attention<B>>,
    up: Vec<Level<B>>,
    norm_out: B::GroupNorm,
    conv_out: B::Conv,
}

/// Residual blocks of one resolution, and the convolution to the next.
#[derive(Debug)]
struct Level<B: Backend> {
    resnets: Vec<ResNet<B>>,
    upsample: Option<B::Conv>,
}

/// Self-attention over pixels with one head.
#[derive(Debug)]
struct Attention<B: Backend> {
    norm: B::GroupNorm,
    qkv: B::Linear,
    out: B::Linear,
}

impl<B: Backend> Decoder<B> {
    /// Reads the weights; `old` says whether the attention has its names of 2022.
    pub fn load(config: Config, old: bool, from: &mut impl Load<B>) -> Result<Self> {
        let (groups, levels) = (config.groups, config.channels.len());
        let (latent, deepest) = (config.latent_channels, config.channels[levels - 1]);
        let post_quant = match config.post_quant {
            true => Some(from.linear(&["post_quant_conv"], (latent, latent), true, Activation::None)?),
            false => None,
        };
        let conv_in = from.conv("decoder.conv_in", (latent, deepest), Resolution::Same)?;
        let before = ResNet::load(from, "decoder.mid_block.resnets.0", (&[deepest], deepest), groups, EPS)?;
        let after = ResNet::load(from, "decoder.mid_block.resnets.1", (&[deepest], deepest), groups, EPS)?;
        let attention = match config.attention {
            true => Some(Attention::load(from, deepest, groups, old)?),
            false => None,
        };
        let mut up = Vec::new();
        let mut inputs = deepest;
        for (i, &c) in config.channels.iter().rev().enumerate() {
            let name = format!("decoder.up_blocks.{i}");
            let mut resnets = Vec::new();
            for j in 0..=config.layers {
                resnets.push(ResNet::load(from, &format!("{name}.resnets.{j}"), (&[inputs], c), groups, EPS)?);
                inputs = c;
            }
            let upsample = match i + 1 < levels {
                true => Some(from.conv(&format!("{name}.upsamplers.0.conv"), (c, c), Resolution::Enlarged)?),
                false => None,
            };
            up.push(Level { resnets, upsample });
        }
        Ok(Self {
            post_quant,
            conv_in,
            mid: [before, after],
            attention,
            up,
            norm_out: from.group_norm("decoder.conv_norm_out", inputs, groups, EPS)?,
            conv_out: from.conv("decoder.conv_out", (inputs, config.out_channels), Resolution::Same)?,
            config,
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The output `[n, factor·h, factor·w, 3]` from the input `[n, h, w, 4]`, latents of `size` that were already
    /// divided by the scaling factor.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn decode(&self, on: &mut impl Layers<B>, n: usize, size: Size) -> Result<()> {
        let mut turn = 0;
        let mut next = |size: Size, channels: usize| {
            turn = 1 - turn;
            Tensor { slot: Slot::Map(turn), rows: n, size, channels }
        };
        let mut latents = Tensor { slot: Slot::Input, rows: n, size, channels: self.config.latent_channels };
        if let Some(layer) = &self.post_quant {
            let y = Tensor { slot: Slot::Tokens, ..latents };
            on.linear(y, layer, latents, None)?;
            latents = y;
        }
        let [before, after] = &self.mid;
        let mut x = next(size, before.outputs());
        on.conv(x, &self.conv_in, latents, Resolution::Same)?;
        let y = next(size, before.outputs());
        before.forward(on, y, &[x], None)?;
        if let Some(attention) = &self.attention {
            attention.forward(on, y)?;
        }
        x = next(size, after.outputs());
        after.forward(on, x, &[y], None)?;
        for level in &self.up {
            for resnet in &level.resnets {
                let y = next(x.size, resnet.outputs());
                resnet.forward(on, y, &[x], None)?;
                x = y;
            }
            if let Some(conv) = &level.upsample {
                let y = next((2 * x.size.0, 2 * x.size.1), x.channels);
                on.conv(y, conv, x, Resolution::Enlarged)?;
                x = y;
            }
        }
        let y = Tensor { slot: Slot::Output, channels: self.config.out_channels, ..x };
        on.normed_conv(y, &self.conv_out, &[x], &self.norm_out, None)
    }
}

impl<B: Backend> Attention<B> {
    fn load(from: &mut impl Load<B>, c: usize, groups: usize, old: bool) -> Result<Self> {
        let names = if old {
            ["group_norm", "query", "key", "value", "proj_attn"]
        } else {
            ["group_norm", "to_q", "to_k", "to_v", "to_out.0"]
        };
        let [norm, q, k, v, out] = names.map(|name| format!("decoder.mid_block.attentions.0.{name}"));
        Ok(Self {
            norm: from.group_norm(&norm, c, groups, EPS)?,
            qkv: from.linear(&[&q, &k, &v], (c, 3 * c), true, Activation::None)?,
            out: from.linear(&[&out], (c, c), true, Activation::None)?,
        })
    }

    /// `x += attention(norm(x))`.
    fn forward(&self, on: &mut impl Layers<B>, x: Tensor) -> Result<()> {
        let (qkv, attended) =
            (Tensor { slot: Slot::Wide, channels: 3 * x.channels, ..x }, Tensor { slot: Slot::Attended, ..x });
        on.group_normed_linear(qkv, &self.qkv, x, &self.norm)?;
        on.attention(attended, qkv, 1, false)?;
        on.linear(x, &self.out, attended, Some(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stable Diffusion's decoder at 512²: 1,257.3 billion multiply-accumulates.
    #[test]
    fn flops_of_stable_diffusion() {
        let config = Config {
            latent_channels: 4,
            out_channels: 3,
            channels: vec![128, 256, 512, 512],
            layers: 2,
            groups: 32,
            scaling_factor: 0.18215,
            post_quant: true,
            attention: true,
        };
        let giga_macs = config.flops((64, 64)).unwrap() / 2e9;
        assert!((giga_macs - 1257.3).abs() < 0.05, "{giga_macs}");
    }
}
