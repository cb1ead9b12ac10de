//! `UNet2DConditionModel` of the SD 1.x family (Rombach et al. 2022; Ronneberger et al. 2015), NHWC.
//!
//! What a caption or a timestep fixes is computed before the steps begin: keys and values of the cross-attentions per caption
//! ([`TextContext`]), biases of the residual blocks per timestep ([`UNet::time_table`]). Both guidance branches go through in one call,
//! and what precedes the first cross-attention is computed for one of them only.

mod config;
mod forward;
mod memory;
mod transformer;

pub use config::Config;
pub use memory::Memory;

use crate::error::Result;
use crate::models::layers::{Loader, ResNet, Size};
use crate::ops::activation::silu;
use crate::ops::attention::Context;
use crate::ops::embed;
use crate::ops::gemm::Threads;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::packed::{Packed, Start, linear};
use crate::weights::SafeTensors;
use transformer::Transformer;

/// Keys and values of one caption for every cross-attention of the network.
#[derive(Debug)]
pub struct TextContext(Vec<Context>);

/// The network with its weights.
#[derive(Debug)]
pub struct UNet {
    config: Config,
    time1: Packed,
    time2: Packed,
    conv_in: Packed,
    down: Vec<Level>,
    mid: [Block; 2],
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Packed,
    /// Length of a row of the time table.
    time_width: usize,
}

/// The blocks of one resolution, and the convolution to the next one.
#[derive(Debug)]
struct Level {
    blocks: Vec<Block>,
    change: Option<Packed>,
}

/// A residual block, where its bias lies in a row of the time table, and perhaps a transformer.
#[derive(Debug)]
struct Block {
    resnet: ResNet,
    time: Packed,
    offset: usize,
    transformer: Option<Transformer>,
}

/// The images of one call.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    pub images: usize,
    /// Height and width of the latent.
    pub size: Size,
    /// Runs of adjacent rows that share a caption. They add up to `images`, or to twice that with the second guidance branch behind the first.
    pub runs: Vec<(usize, &'a TextContext)>,
}

impl Batch<'_> {
    /// Rows of the output.
    pub fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.0).sum()
    }
}

impl UNet {
    /// Reads the weights by their diffusers names.
    pub fn load(config: Config, weights: &SafeTensors) -> Result<Self> {
        let load = Loader { weights };
        let (first, levels) = (config.channels[0], config.channels.len());
        let deepest = config.channels[levels - 1];
        let time = 4 * first;
        let (mut offset, mut transformers) = (0, 0);
        let mut block = |prefix: &str, j: usize, inputs: usize, level: usize, attention: bool| -> Result<Block> {
            let outputs = config.channels[level];
            let name = format!("{prefix}.resnets.{j}");
            let resnet = ResNet::load(load, &name, (inputs, outputs), config.groups, config.eps)?;
            let time = load.linear(&format!("{name}.time_emb_proj"), time, outputs, true)?;
            let transformer = if attention {
                let sizes = (outputs, config.heads[level], config.context, config.groups);
                Some(Transformer::load(load, &format!("{prefix}.attentions.{j}"), transformers, sizes)?)
            } else {
                None
            };
            let block = Block { resnet, time, offset, transformer };
            offset += outputs;
            transformers += usize::from(attention);
            Ok(block)
        };
        let mut down = Vec::new();
        let mut skips = vec![first];
        let mut inputs = first;
        for (i, &c) in config.channels.iter().enumerate() {
            let name = format!("down_blocks.{i}");
            let mut blocks = Vec::new();
            for j in 0..config.layers[i] {
                blocks.push(block(&name, j, inputs, i, config.down_attention[i])?);
                inputs = c;
                skips.push(c);
            }
            let change = if i + 1 < levels {
                skips.push(c);
                Some(load.conv(&format!("{name}.downsamplers.0.conv"), c, c)?)
            } else {
                None
            };
            down.push(Level { blocks, change });
        }
        let mid =
            [block("mid_block", 0, deepest, levels - 1, true)?, block("mid_block", 1, deepest, levels - 1, false)?];
        let mut up = Vec::new();
        for i in 0..levels {
            let (level, name) = (levels - 1 - i, format!("up_blocks.{i}"));
            let c = config.channels[level];
            let mut blocks = Vec::new();
            for j in 0..config.layers[level] + 1 {
                let skip = skips.pop().unwrap_or(first);
                blocks.push(block(&name, j, inputs + skip, level, config.up_attention[i])?);
                inputs = c;
            }
            let upsample = format!("{name}.upsamplers.0.conv");
            let change = if level > 0 { Some(load.conv(&upsample, c, c)?) } else { None };
            up.push(Level { blocks, change });
        }
        Ok(Self {
            time1: load.linear("time_embedding.linear_1", first, time, true)?,
            time2: load.linear("time_embedding.linear_2", time, time, true)?,
            conv_in: load.conv("conv_in", config.in_channels, first)?,
            down,
            mid,
            up,
            norm_out: load.group_norm("conv_norm_out", first, config.groups, config.eps)?,
            conv_out: load.conv("conv_out", first, config.out_channels)?,
            time_width: offset,
            config,
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every block, in the order of the time table.
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        let down = self.down.iter().flat_map(|level| &level.blocks);
        down.chain(&self.mid).chain(self.up.iter().flat_map(|level| &level.blocks))
    }

    /// Values held.
    pub fn values(&self) -> usize {
        let block =
            |b: &Block| b.resnet.values() + b.time.values() + b.transformer.as_ref().map_or(0, Transformer::values);
        let changes = self.down.iter().chain(&self.up).filter_map(|level| level.change.as_ref());
        let ends = [&self.time1, &self.time2, &self.conv_in, &self.conv_out];
        self.blocks().map(block).sum::<usize>()
            + changes.chain(ends).map(Packed::values).sum::<usize>()
            + 2 * self.norm_out.channels()
    }

    /// Keys and values of a caption, from its text states `[T, context]`.
    pub fn context(&self, text: &[f32]) -> TextContext {
        TextContext(self.blocks().filter_map(|b| b.transformer.as_ref()).map(|layer| layer.context(text)).collect())
    }

    /// Values of one [`TextContext`] for texts of `tokens`.
    pub fn context_len(&self, tokens: usize) -> usize {
        let with = self.blocks().filter(|b| b.transformer.is_some());
        with.map(|b| 2 * tokens * b.resnet.outputs()).sum()
    }

    /// For each timestep, the biases of all residual blocks: first convolution's bias plus the projected timestep embedding.
    pub fn time_table(&self, timesteps: &[f32]) -> Vec<Vec<f32>> {
        let Config { flip_sin_to_cos, freq_shift, .. } = self.config;
        let row = |&t: &f32| {
            let sines = embed::timestep(t, self.time1.k, flip_sin_to_cos, freq_shift as f32);
            let (mut hidden, mut embedding) = (vec![0.0; self.time1.n], vec![0.0; self.time2.n]);
            linear(&mut hidden, &sines, &self.time1, Start::Bias, Threads::All);
            silu(&mut hidden);
            linear(&mut embedding, &hidden, &self.time2, Start::Bias, Threads::All);
            silu(&mut embedding);
            let mut row = vec![0.0; self.time_width];
            for block in self.blocks() {
                let bias = &mut row[block.offset..block.offset + block.time.n];
                linear(bias, &embedding, &block.time, Start::Bias, Threads::All);
                bias.iter_mut().zip(block.resnet.bias()).for_each(|(b, c)| *b += c);
            }
            row
        };
        timesteps.iter().map(row).collect()
    }
}
