//! The decoder on CUDA.

use super::{Config, EPS, attention_names};
use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::models::layers::cuda::{Layer, Map, Norm, ResNet, ResNetShape, Scratch, Size, Space, Weights};
use crate::ops::attention::Shape;
use crate::ops::attention::cuda::{self as attention, Heads};
use crate::ops::conv::cuda::{Source, Taps};

/// The decoder with its weights.
#[derive(Clone, Debug)]
pub struct CudaDecoder<T> {
    config: Config,
    post_quant: Option<Layer<T>>,
    conv_in: Layer<T>,
    mid: [ResNet<T>; 2],
    attention: Option<Attention<T>>,
    up: Vec<Level<T>>,
    norm_out: Norm,
    conv_out: Layer<T>,
}

#[derive(Clone, Debug)]
struct Level<T> {
    resnets: Vec<ResNet<T>>,
    upsample: Option<Layer<T>>,
}

/// Self-attention over pixels with one head.
#[derive(Clone, Debug)]
struct Attention<T> {
    norm: Norm,
    qkv: Layer<T>,
    out: Layer<T>,
}

/// Activations of a call.
#[derive(Clone, Debug)]
pub struct Memory<T> {
    latents: View<T>,
    now: Space<T>,
    next: Space<T>,
    qkv: View<T>,
    attended: View<T>,
    scratch: Scratch<T>,
}

impl<T: Half> Memory<T> {
    /// The same memory for values of the other 16-bit type.
    pub fn cast<U: Half>(&self) -> Memory<U> {
        let Self { latents, now, next, qkv, attended, scratch } = self;
        Memory {
            latents: latents.cast(),
            now: now.cast(),
            next: next.cast(),
            qkv: qkv.cast(),
            attended: attended.cast(),
            scratch: scratch.cast(),
        }
    }
}

impl<T: Half> CudaDecoder<T> {
    /// Places (and packs) the weights by their diffusers names; `old` says whether the attention has its names of 2022.
    pub fn load(config: Config, weights: &mut Weights<'_>, old: bool) -> Result<Self> {
        let (groups, levels) = (config.groups, config.channels.len());
        let (latent, deepest) = (config.latent_channels, config.channels[levels - 1]);
        let post_quant = config.post_quant.then(|| weights.linear(&["post_quant_conv"], latent, latent, true));
        let post_quant = post_quant.transpose()?;
        let conv_in = weights.conv("decoder.conv_in", latent, deepest)?;
        let resnet = |weights: &mut Weights<'_>, name: &str, inputs: usize, outputs: usize| {
            ResNet::load(weights, name, (&[inputs], outputs), groups, EPS)
        };
        let mid = [
            resnet(weights, "decoder.mid_block.resnets.0", deepest, deepest)?,
            resnet(weights, "decoder.mid_block.resnets.1", deepest, deepest)?,
        ];
        let attention = config.attention.then(|| Attention::load(weights, deepest, groups, old)).transpose()?;
        let mut up = Vec::new();
        let mut inputs = deepest;
        for (i, &c) in config.channels.iter().rev().enumerate() {
            let name = format!("decoder.up_blocks.{i}");
            let mut resnets = Vec::new();
            for j in 0..=config.layers {
                resnets.push(resnet(weights, &format!("{name}.resnets.{j}"), inputs, c)?);
                inputs = c;
            }
            let upsample = (i + 1 < levels).then(|| weights.upsampler(&format!("{name}.upsamplers.0.conv"), c));
            up.push(Level { resnets, upsample: upsample.transpose()? });
        }
        Ok(Self {
            post_quant,
            conv_in,
            mid,
            attention,
            up,
            norm_out: Norm::load(weights, "decoder.conv_norm_out", inputs, groups, EPS)?,
            conv_out: weights.conv("decoder.conv_out", inputs, config.out_channels)?,
            config,
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Memory for calls of up to `n` latents of `size`.
    pub fn memory(&self, arena: &mut Arena, n: usize, size: Size) -> Memory<T> {
        let group = "decoder";
        let deepest = self.conv_in.outputs();
        let mut blocks: Vec<(usize, Size, ResNetShape)> = vec![(n, size, self.mid[0].shape())];
        let mut maps = vec![(n, size, deepest)];
        let mut now = size;
        for level in &self.up {
            blocks.extend(level.resnets.iter().map(|resnet| (n, now, resnet.shape())));
            if let Some(conv) = &level.upsample {
                now = (2 * now.0, 2 * now.1);
                maps.push((n, now, conv.outputs()));
            }
        }
        let c = self.norm_out.channels();
        blocks.push((n, now, ResNetShape { inputs: c, outputs: c }));
        maps.extend(blocks.iter().map(|&(n, size, shape)| (n, size, shape.outputs)));
        let tokens = if self.attention.is_some() { n * size.0 * size.1 * deepest } else { 0 };
        Memory {
            latents: arena.take(group, "latents", n * size.0 * size.1 * self.config.latent_channels),
            now: Space::take(arena, group, "feature map", maps.iter().copied()),
            next: Space::take(arena, group, "next feature map", maps.iter().copied()),
            qkv: arena.take(group, "queries, keys and values", 3 * tokens),
            attended: arena.take(group, "attended", tokens),
            scratch: Scratch::take(arena, group, &blocks),
        }
    }

    /// `out [n, factor·h, factor·w, 3]` from `latents [n, h, w, 4]` that were already divided by the scaling factor.
    pub fn decode(
        &self,
        gpu: &Gpu,
        out: View<f32>,
        latents: View<T>,
        (n, size): (usize, Size),
        memory: &Memory<T>,
    ) -> Result<()> {
        let scratch = &memory.scratch;
        let mut turn = 0;
        let mut next = |size: Size, channels: usize| {
            turn = 1 - turn;
            [memory.now, memory.next][turn].map(n, size, channels)
        };
        let latents = match &self.post_quant {
            Some(layer) => {
                let y = memory.latents.slice(0..latents.len());
                layer.linear(gpu, y, Source { x: latents, rows: n }, None, (n, size.0 * size.1))?;
                y
            }
            None => latents,
        };
        let mut x = next(size, self.conv_in.outputs());
        self.conv_in.map(gpu, x, Source { x: latents, rows: n }, None)?;
        let [before, after] = &self.mid;
        let mut resnet = |x: &mut Map<T>, resnet: &ResNet<T>| {
            let y = next(x.size, resnet.shape().outputs);
            resnet.forward(gpu, y, &[*x], None, scratch)?;
            *x = y;
            Ok(())
        };
        resnet(&mut x, before)?;
        if let Some(attention) = &self.attention {
            attention.forward(gpu, x, memory)?;
        }
        resnet(&mut x, after)?;
        for level in &self.up {
            for block in &level.resnets {
                let y = next(x.size, block.shape().outputs);
                block.forward(gpu, y, &[x], None, scratch)?;
                x = y;
            }
            if let Some(conv) = &level.upsample {
                let larger = (2 * x.size.0, 2 * x.size.1);
                let y = next(larger, conv.outputs());
                conv.resample(gpu, y, x, Taps::Three { stride: 1, enlarge: Some(larger) })?;
                x = y;
            }
        }
        let normed = scratch.normed.slice(0..x.x.len());
        self.norm_out.forward(gpu, normed, &[x], n, true, scratch.table)?;
        self.conv_out.last(gpu, out, Source { x: normed, rows: n }, (n, x.size))
    }
}

impl<T: Half> Attention<T> {
    fn load(weights: &mut Weights<'_>, c: usize, groups: usize, old: bool) -> Result<Self> {
        let names = attention_names(old);
        let [q, k, v, out] = [&names[1], &names[2], &names[3], &names[4]];
        Ok(Self {
            norm: Norm::load(weights, &names[0], c, groups, EPS)?,
            qkv: weights.linear(&[q, k, v], c, 3 * c, true)?,
            out: weights.linear(&[out], c, c, true)?,
        })
    }

    /// `x += attention(norm(x))`.
    fn forward(&self, gpu: &Gpu, x: Map<T>, memory: &Memory<T>) -> Result<()> {
        let (n, pixels, c) = (x.rows, x.pixels(), x.channels);
        let normed = Source { x: memory.scratch.normed.slice(0..x.x.len()), rows: n };
        let qkv = memory.qkv.slice(0..3 * x.x.len());
        let attended = Source { x: memory.attended.slice(0..x.x.len()), rows: n };
        self.norm.forward(gpu, normed.x, &[x], n, false, memory.scratch.table)?;
        self.qkv.linear(gpu, qkv, normed, None, (n, pixels))?;
        let part = |i: usize| Heads::part(qkv, i, 3, c);
        let shape = Shape { n, queries: pixels, keys: pixels, heads: 1, head_dim: c, causal: false };
        attention::forward(gpu, attended.x, part(0), part(1), part(2), shape)?;
        self.out.map(gpu, x, attended, Some(x.source()))
    }
}
