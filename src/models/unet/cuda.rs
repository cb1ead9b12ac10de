//! The UNet on CUDA: f16 or bf16 feature maps, f32 model outputs, everything queued and nothing waited for, so that a call can be recorded.

mod transformer;

use super::Config;
use super::architecture::{Architecture, BlockAt, LevelAt};
use crate::device::cuda::{Arena, Gpu, Half, View};
use crate::error::Result;
use crate::models::layers::cuda::{Layer, Map, Norm, ResNet, ResNetShape, Scratch, Size, Space, Weights};
use crate::ops::conv::cuda::{Bias, Source, Taps};
use transformer::Transformer;

/// The network with its weights.
#[derive(Clone, Debug)]
pub struct CudaUNet<T> {
    config: Config,
    conv_in: Layer<T>,
    down: Vec<Level<T>>,
    mid: Vec<Block<T>>,
    up: Vec<Level<T>>,
    norm_out: Norm,
    conv_out: Layer<T>,
}

#[derive(Clone, Debug)]
struct Level<T> {
    blocks: Vec<Block<T>>,
    change: Option<Layer<T>>,
}

#[derive(Clone, Debug)]
struct Block<T> {
    resnet: ResNet<T>,
    offset: usize,
    transformer: Option<Transformer<T>>,
}

/// Activations of a call.
#[derive(Clone, Debug)]
pub struct Memory<T> {
    /// Results of the way down, which the way up reads again.
    skips: Vec<Map<T>>,
    /// The feature map and the next one.
    now: Space<T>,
    next: Space<T>,
    /// What a transformer reads: the output of its residual block.
    inner: Space<T>,
    scratch: Scratch<T>,
    tokens: transformer::Scratch<T>,
}

/// Keys and values of `captions` captions for every transformer: `[captions, tokens, 2C]` each.
#[derive(Clone, Debug)]
pub struct Contexts<T> {
    layers: Vec<View<T>>,
    captions: usize,
    tokens: usize,
}

/// What a call reads beside its latents.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a, T> {
    pub images: usize,
    /// `images`, or twice that with the second guidance branch behind the first.
    pub rows: usize,
    pub size: Size,
    /// `[steps, width]`, of which row `step[0]` is used.
    pub time: View<f32>,
    pub time_width: usize,
    pub step: View<u32>,
    pub contexts: &'a Contexts<T>,
    /// Caption of every row.
    pub which: View<u32>,
}

impl<T: Half> CudaUNet<T> {
    /// Places (and packs) the weights by their diffusers names.
    pub fn load(config: Config, weights: &mut Weights<'_>) -> Result<Self> {
        let architecture = Architecture::new(&config);
        let (first, groups) = (config.channels[0], config.groups);
        let block = |at: &BlockAt, parts: &[usize], weights: &mut Weights<'_>| -> Result<Block<T>> {
            let resnet = ResNet::load(weights, &at.name, (parts, at.outputs), groups, config.eps)?;
            let sizes = (at.outputs, config.context, groups);
            let transformer = at.transformer.as_ref().map(|at| Transformer::load(weights, at, sizes));
            Ok(Block { resnet, offset: at.offset, transformer: transformer.transpose()? })
        };
        let down_conv = |at: &LevelAt, weights: &mut Weights<'_>| {
            at.change.as_ref().map(|name| weights.conv(name, at.channels, at.channels)).transpose()
        };
        let up_conv = |at: &LevelAt, weights: &mut Weights<'_>| {
            at.change.as_ref().map(|name| weights.upsampler(name, at.channels)).transpose()
        };
        let conv_in = weights.conv("conv_in", config.in_channels, first)?;
        let (mut down, mut up) = (Vec::new(), Vec::new());
        let mut skips = vec![first];
        for at in &architecture.down {
            let mut blocks = Vec::new();
            for at in &at.blocks {
                blocks.push(block(at, &[at.inputs], weights)?);
                skips.push(at.outputs);
            }
            let change = down_conv(at, weights)?;
            skips.extend(change.as_ref().map(Layer::outputs));
            down.push(Level { blocks, change });
        }
        let mid = architecture.mid.iter().map(|at| block(at, &[at.inputs], weights)).collect::<Result<_>>()?;
        for at in &architecture.up {
            let mut blocks = Vec::new();
            for at in &at.blocks {
                let skip = skips.pop().unwrap_or(first);
                blocks.push(block(at, &[at.inputs - skip, skip], weights)?);
            }
            up.push(Level { blocks, change: up_conv(at, weights)? });
        }
        Ok(Self {
            conv_in,
            down,
            mid,
            up,
            norm_out: Norm::load(weights, "conv_norm_out", first, groups, config.eps)?,
            conv_out: weights.conv("conv_out", first, config.out_channels)?,
            config,
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn blocks(&self) -> impl Iterator<Item = &Block<T>> {
        let down = self.down.iter().flat_map(|level| &level.blocks);
        down.chain(&self.mid).chain(self.up.iter().flat_map(|level| &level.blocks))
    }

    fn transformers(&self) -> impl Iterator<Item = &Transformer<T>> {
        self.blocks().filter_map(|block| block.transformer.as_ref())
    }

    /// Memory for keys and values of `captions` captions of `tokens`.
    pub fn contexts(&self, arena: &mut Arena, captions: usize, tokens: usize) -> Contexts<T> {
        let take = |(i, layer): (usize, &Transformer<T>)| {
            arena.take("captions", format!("keys and values {i}"), captions * tokens * 2 * layer.channels())
        };
        Contexts { layers: self.transformers().enumerate().map(take).collect(), captions, tokens }
    }

    /// Keys and values of one caption, from its text states `[tokens, context]`, to place `caption`.
    pub fn write_context(&self, gpu: &Gpu, contexts: &Contexts<T>, caption: usize, states: View<T>) -> Result<()> {
        assert!(caption < contexts.captions, "context {caption} of {}", contexts.captions);
        for (layer, kv) in self.transformers().zip(&contexts.layers) {
            let len = kv.len() / contexts.captions;
            layer.context(gpu, kv.slice(caption * len..(caption + 1) * len), states)?;
        }
        Ok(())
    }

    /// Memory for calls of up to `rows` rows (images times guidance branches) of latents of `size`.
    pub fn memory(&self, arena: &mut Arena, rows: usize, size: Size) -> Memory<T> {
        let group = "unet";
        let sizes = self.config.sizes(size);
        let deepest = sizes[sizes.len() - 1];
        let mut skips = vec![(rows, size, self.conv_in.outputs())];
        let mut maps = Vec::new();
        let mut blocks: Vec<(usize, Size, &Block<T>)> = self.mid.iter().map(|block| (rows, deepest, block)).collect();
        for (i, (level, &size)) in self.down.iter().zip(&sizes).enumerate() {
            blocks.extend(level.blocks.iter().map(|block| (rows, size, block)));
            skips.extend(level.blocks.iter().map(|block| (rows, size, block.resnet.shape().outputs)));
            skips.extend(level.change.iter().map(|conv| (rows, sizes[i + 1], conv.outputs())));
        }
        for (level, at) in self.up.iter().zip((0..sizes.len()).rev()) {
            blocks.extend(level.blocks.iter().map(|block| (rows, sizes[at], block)));
            maps.extend(level.change.iter().map(|conv| (rows, sizes[at - 1], conv.outputs())));
        }
        maps.extend(blocks.iter().map(|&(rows, size, block)| (rows, size, block.resnet.shape().outputs)));
        let mut shapes: Vec<(usize, Size, ResNetShape)> =
            blocks.iter().map(|&(rows, size, block)| (rows, size, block.resnet.shape())).collect();
        // The last norm.
        let c = self.norm_out.channels();
        shapes.push((rows, size, ResNetShape { inputs: c, outputs: c }));
        let inner: Vec<(usize, Size, usize)> = blocks
            .iter()
            .filter_map(|&(rows, size, block)| Some((rows, size, block.transformer.as_ref()?.channels())))
            .collect();
        let skip = |(i, map): (usize, (usize, Size, usize))| {
            let space = Space::take(arena, group, &format!("skip {i}"), std::iter::once(map));
            space.map(map.0, map.1, map.2)
        };
        Memory {
            skips: skips.into_iter().enumerate().map(skip).collect(),
            now: Space::take(arena, group, "feature map", maps.iter().copied()),
            next: Space::take(arena, group, "next feature map", maps.iter().copied()),
            inner: Space::take(arena, group, "transformer, input", inner.iter().copied()),
            scratch: Scratch::take(arena, group, &shapes),
            tokens: transformer::Scratch::take(arena, group, &inner),
        }
    }

    /// `out [rows, H, W, out_channels]` for latents `x [images, H, W, in_channels]`.
    pub fn forward(&self, gpu: &Gpu, out: View<f32>, x: View<T>, call: &Call<'_, T>, memory: &Memory<T>) -> Result<()> {
        let Call { images, rows, size, .. } = *call;
        assert!(rows == images || rows == 2 * images, "unet: {rows} rows for {images} images");
        let sizes = self.config.sizes(size);
        let scratch = &memory.scratch;
        // Until a caption is first looked at, both guidance branches of an image are the same: only the first is computed.
        let mut valid = images;
        let mut skips = vec![memory.skips[0].first(images)];
        self.conv_in.map(gpu, skips[0], Source { x, rows: images }, None)?;
        for level in &self.down {
            for block in &level.blocks {
                let (x, y) = (skips[skips.len() - 1], memory.skips[skips.len()]);
                valid = if block.transformer.is_some() { rows } else { valid };
                let y = y.first(valid);
                self.block(gpu, block, y, &[x], call, memory)?;
                skips.push(y);
            }
            if let Some(conv) = &level.change {
                let (x, y) = (skips[skips.len() - 1], memory.skips[skips.len()].first(valid));
                conv.resample(gpu, y, x, Taps::Three { stride: 2, enlarge: None })?;
                skips.push(y);
            }
        }

        let mut x = skips[skips.len() - 1];
        let mut turn = 0;
        let mut next = |size: Size, channels: usize| {
            turn = 1 - turn;
            [memory.now, memory.next][turn].map(rows, size, channels)
        };
        for block in &self.mid {
            let y = next(x.size, block.resnet.shape().outputs);
            self.block(gpu, block, y, &[x], call, memory)?;
            x = y;
        }
        let mut left = skips.iter().rev();
        for (level, at) in self.up.iter().zip((0..sizes.len()).rev()) {
            for (block, &skip) in level.blocks.iter().zip(&mut left) {
                let y = next(sizes[at], block.resnet.shape().outputs);
                self.block(gpu, block, y, &[x, skip], call, memory)?;
                x = y;
            }
            if let Some(conv) = &level.change {
                let y = next(sizes[at - 1], conv.outputs());
                conv.resample(gpu, y, x, Taps::Three { stride: 1, enlarge: Some(sizes[at - 1]) })?;
                x = y;
            }
        }
        let normed = scratch.normed.slice(0..rows * x.pixels() * x.channels);
        self.norm_out.forward(gpu, normed, &[x], rows, true, scratch.table)?;
        self.conv_out.last(gpu, out, Source { x: normed, rows }, (rows, size))
    }

    /// A residual block and, if it has one, its transformer, which alone may have more rows than its input.
    fn block(
        &self,
        gpu: &Gpu,
        block: &Block<T>,
        y: Map<T>,
        parts: &[Map<T>],
        call: &Call<'_, T>,
        memory: &Memory<T>,
    ) -> Result<()> {
        let time = Bias::Table { table: call.time, stride: call.time_width, offset: block.offset, step: call.step };
        let Some(transformer) = &block.transformer else {
            return block.resnet.forward(gpu, y, parts, Some(time), &memory.scratch);
        };
        let valid = parts.iter().map(|part| part.rows).max().unwrap_or(y.rows);
        let x = memory.inner.map(valid, y.size, y.channels);
        block.resnet.forward(gpu, x, parts, Some(time), &memory.scratch)?;
        let contexts = (call.contexts.layers[transformer.index], call.which, call.contexts.tokens);
        transformer.forward(gpu, y, x, contexts, &memory.tokens)
    }
}
