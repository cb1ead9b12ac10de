//! Decoder of `AutoencoderKL` (Rombach et al. 2022): latent `[N, h, w, 4]` to image `[N, H, W, 3]` in about [-1, 1], NHWC.

#[cfg(cuda_kernels)]
pub mod cuda;

use std::path::Path;

use serde_json::Value;

use super::layers::{Loader, Need, ResNet, Scratch, Size};
use super::settings::Settings;
use crate::device::Plan;
use crate::error::Result;
use crate::ops::attention::{self, Tokens};
use crate::ops::conv::{self, Shape};
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::packed::{Packed, Start, linear};
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

    /// FLOPs (two per multiply-accumulate) of the products, convolutions and attention that decode one latent of `size`.
    pub fn flops(&self, mut size: Size) -> f64 {
        let conv = |size: Size, inputs, outputs| Shape::same(1, size.0, size.1, inputs).flops(outputs);
        let linear = |size: Size, inputs: usize, outputs: usize| 2.0 * (size.0 * size.1 * inputs * outputs) as f64;
        let resnet = |size: Size, inputs: usize, outputs: usize| {
            let shortcut = if inputs == outputs { 0.0 } else { linear(size, inputs, outputs) };
            conv(size, inputs, outputs) + conv(size, outputs, outputs) + shortcut
        };
        let (latent, levels) = (self.latent_channels, self.channels.len());
        let mut inputs = self.channels[levels - 1];
        let mut flops = conv(size, latent, inputs) + 2.0 * resnet(size, inputs, inputs);
        if self.post_quant {
            flops += linear(size, latent, latent);
        }
        if self.attention {
            let pixels = size.0 * size.1;
            let shape =
                attention::Shape { n: 1, queries: pixels, keys: pixels, heads: 1, head_dim: inputs, causal: false };
            flops += linear(size, inputs, 4 * inputs) + shape.flops();
        }
        for (i, &c) in self.channels.iter().rev().enumerate() {
            for _ in 0..=self.layers {
                flops += resnet(size, inputs, c);
                inputs = c;
            }
            if i + 1 < levels {
                size = (2 * size.0, 2 * size.1);
                flops += conv(size, c, c);
            }
        }
        flops + conv(size, inputs, self.out_channels)
    }
}

/// The decoder with its weights.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    post_quant: Option<Packed>,
    conv_in: Packed,
    mid: [ResNet; 2],
    attention: Option<Attention>,
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Packed,
}

#[derive(Debug)]
struct Level {
    resnets: Vec<ResNet>,
    upsample: Option<Packed>,
}

/// Self-attention over pixels with one head.
#[derive(Debug)]
struct Attention {
    norm: GroupNorm,
    qkv: Packed,
    out: Packed,
}

/// Activations of a [`Decoder`] call.
#[derive(Debug)]
pub struct Memory {
    now: Vec<f32>,
    next: Vec<f32>,
    scratch: Scratch,
}

impl Decoder {
    /// Reads the weights by their diffusers names (attention by today's or by 2022's).
    pub fn load(config: Config, weights: &SafeTensors) -> Result<Self> {
        let load = Loader { weights };
        let (groups, levels) = (config.groups, config.channels.len());
        let deepest = config.channels[levels - 1];
        let resnet = |name: &str, inputs, outputs| ResNet::load(load, name, (inputs, outputs), groups, EPS);
        let mut up = Vec::new();
        let mut inputs = deepest;
        for (i, &c) in config.channels.iter().rev().enumerate() {
            let name = format!("decoder.up_blocks.{i}");
            let mut resnets = Vec::new();
            for j in 0..=config.layers {
                resnets.push(resnet(&format!("{name}.resnets.{j}"), inputs, c)?);
                inputs = c;
            }
            let upsample =
                if i + 1 < levels { Some(load.conv(&format!("{name}.upsamplers.0.conv"), c, c)?) } else { None };
            up.push(Level { resnets, upsample });
        }
        let latent = config.latent_channels;
        Ok(Self {
            post_quant: if config.post_quant {
                Some(load.linear("post_quant_conv", latent, latent, true)?)
            } else {
                None
            },
            conv_in: load.conv("decoder.conv_in", latent, deepest)?,
            mid: [
                resnet("decoder.mid_block.resnets.0", deepest, deepest)?,
                resnet("decoder.mid_block.resnets.1", deepest, deepest)?,
            ],
            attention: if config.attention { Some(Attention::load(load, deepest, groups)?) } else { None },
            up,
            norm_out: load.group_norm("decoder.conv_norm_out", inputs, groups, EPS)?,
            conv_out: load.conv("decoder.conv_out", inputs, config.out_channels)?,
            config,
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Values held.
    pub fn values(&self) -> usize {
        let resnets = self.mid.iter().chain(self.up.iter().flat_map(|level| &level.resnets));
        let upsamples = self.up.iter().filter_map(|level| level.upsample.as_ref());
        let layers = upsamples.chain(&self.post_quant).chain([&self.conv_in, &self.conv_out]);
        let attention = |a: &Attention| a.qkv.values() + a.out.values() + 2 * a.norm.channels();
        resnets.map(ResNet::values).sum::<usize>()
            + layers.map(Packed::values).sum::<usize>()
            + self.attention.as_ref().map_or(0, attention)
            + 2 * self.norm_out.channels()
    }

    /// Memory for calls of up to `n` latents of `size`.
    pub fn memory(&self, plan: &mut Plan, group: &'static str, n: usize, size: Size) -> Memory {
        let mut need = Need::default();
        let mut pixels = n * size.0 * size.1;
        let deepest = pixels * self.conv_in.n;
        let mut widest = deepest;
        need.at_least(deepest, pixels * self.config.latent_channels, 3 * deepest, deepest);
        self.mid[0].need(&mut need, pixels);
        for level in &self.up {
            for resnet in &level.resnets {
                resnet.need(&mut need, pixels);
                widest = widest.max(pixels * resnet.inputs().max(resnet.outputs()));
            }
            if let Some(conv) = &level.upsample {
                pixels *= 4;
                widest = widest.max(pixels * conv.n);
            }
        }
        need.at_least(pixels * self.norm_out.channels(), 0, 0, 0);
        Memory {
            now: plan.f32(group, "feature map", widest),
            next: plan.f32(group, "next feature map", widest),
            scratch: need.allocate(plan, group),
        }
    }

    /// `out [N, factor·h, factor·w, 3]` from `latents [N, h, w, 4]` that were already divided by the scaling factor.
    pub fn decode(
        &self,
        out: &mut [f32],
        latents: &[f32],
        (n, mut size): (usize, Size),
        memory: &mut Memory,
        threads: Threads,
    ) {
        let Memory { now, next, scratch } = memory;
        let mut pixels = n * size.0 * size.1;
        let latents = match &self.post_quant {
            Some(layer) => {
                let y = &mut scratch.b[..latents.len()];
                linear(y, latents, layer, Start::Bias, threads);
                &*y
            }
            None => latents,
        };
        let mut c = self.conv_in.n;
        let shape = Shape::same(n, size.0, size.1, self.config.latent_channels);
        conv::forward(&mut now[..pixels * c], latents, &self.conv_in, Start::Bias, shape, threads);

        self.mid[0].forward(&mut next[..pixels * c], &now[..pixels * c], (n, size), None, scratch, threads);
        if let Some(attention) = &self.attention {
            attention.forward(&mut next[..pixels * c], (n, size.0 * size.1), scratch, threads);
        }
        self.mid[1].forward(&mut now[..pixels * c], &next[..pixels * c], (n, size), None, scratch, threads);
        for level in &self.up {
            for resnet in &level.resnets {
                let (x, y) = (&now[..pixels * c], &mut next[..pixels * resnet.outputs()]);
                resnet.forward(y, x, (n, size), None, scratch, threads);
                c = resnet.outputs();
                std::mem::swap(now, next);
            }
            if let Some(conv) = &level.upsample {
                let larger = (2 * size.0, 2 * size.1);
                let shape = Shape { enlarge: Some(larger), ..Shape::same(n, size.0, size.1, c) };
                conv::forward(&mut next[..4 * pixels * c], &now[..pixels * c], conv, Start::Bias, shape, threads);
                (size, pixels) = (larger, 4 * pixels);
                std::mem::swap(now, next);
            }
        }
        let normed = &mut scratch.a[..pixels * c];
        self.norm_out.forward(normed, &now[..pixels * c], size.0 * size.1, true, threads);
        conv::forward(out, normed, &self.conv_out, Start::Bias, Shape::same(n, size.0, size.1, c), threads);
    }
}

/// Whether the attention's tensors have their names of 2022.
pub fn has_old_names(weights: &SafeTensors) -> bool {
    weights.contains("decoder.mid_block.attentions.0.query.weight")
}

/// Group norm, queries, keys, values and output of the attention.
fn attention_names(old: bool) -> [String; 5] {
    let names = if old {
        ["group_norm", "query", "key", "value", "proj_attn"]
    } else {
        ["group_norm", "to_q", "to_k", "to_v", "to_out.0"]
    };
    names.map(|name| format!("decoder.mid_block.attentions.0.{name}"))
}

impl Attention {
    fn load(load: Loader<'_>, c: usize, groups: usize) -> Result<Self> {
        let names = attention_names(has_old_names(load.weights));
        let layer = |i: usize| load.linear(&names[i], c, c, true);
        Ok(Self {
            norm: load.group_norm(&names[0], c, groups, EPS)?,
            qkv: Packed::side_by_side(&[&layer(1)?, &layer(2)?, &layer(3)?]),
            out: layer(4)?,
        })
    }

    /// `x [N, pixels, C] += attention(norm(x))`.
    fn forward(&self, x: &mut [f32], (n, pixels): (usize, usize), scratch: &mut Scratch, threads: Threads) {
        let c = self.out.n;
        let Scratch { a, c: wide, d, .. } = scratch;
        let (a, d) = (&mut a[..x.len()], &mut d[..x.len()]);
        let qkv = &mut wide[..3 * x.len()];
        self.norm.forward(a, x, pixels, false, threads);
        linear(qkv, a, &self.qkv, Start::Bias, threads);
        let shape = attention::Shape { n, queries: pixels, keys: pixels, heads: 1, head_dim: c, causal: false };
        let part = |i: usize| Tokens { data: &qkv[i * c..], stride: 3 * c };
        attention::forward(d, part(0), part(1), part(2), shape, threads);
        linear(x, d, &self.out, Start::Keep, threads);
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
        let giga_macs = config.flops((64, 64)) / 2e9;
        assert!((giga_macs - 1257.3).abs() < 0.05, "{giga_macs}");
    }
}
