//! `UNet2DConditionModel` of the SD 1.x family (Rombach et al. 2022; Ronneberger et al. 2015), NHWC.
//!
//! What a caption or a timestep fixes is computed before the steps begin: keys and values of the cross-attentions per caption
//! ([`TextContext`]), biases of the residual blocks per timestep ([`UNet::time_table`]). Both guidance branches go through in one call,
//! and what precedes the first cross-attention is computed for one of them only.

mod architecture;
mod config;
#[cfg(cuda_kernels)]
pub mod cuda;
mod flops;
mod forward;
mod memory;
mod time;
mod transformer;

pub use config::{Config, Mid};
pub use flops::Flops;
pub use memory::Memory;
pub use time::Time;

use crate::error::Result;
use crate::models::layers::{Loader, ResNet, Size};
use crate::ops::attention::Context;
use crate::ops::groupnorm::GroupNorm;
use crate::ops::packed::Packed;
use crate::weights::SafeTensors;
use architecture::{Architecture, BlockAt};
use transformer::Transformer;

/// Keys and values of one caption for every cross-attention of the network.
#[derive(Debug, Default)]
pub struct TextContext(Vec<Context>);

/// The network with its weights.
#[derive(Debug)]
pub struct UNet {
    config: Config,
    time: Time,
    conv_in: Packed,
    down: Vec<Level>,
    mid: Vec<Block>,
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Packed,
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
        let architecture = Architecture::new(&config);
        let block = |at: &BlockAt| -> Result<Block> {
            let resnet = ResNet::load(load, &at.name, (at.inputs, at.outputs), config.groups, config.eps)?;
            let transformer = at.transformer.as_ref().map(|transformer| {
                let sizes = (at.outputs, transformer.heads, config.context, config.groups);
                Transformer::load(load, &transformer.name, transformer.index, sizes)
            });
            Ok(Block { resnet, offset: at.offset, transformer: transformer.transpose()? })
        };
        let levels = |levels: &[architecture::LevelAt]| -> Result<Vec<Level>> {
            let level = |at: &architecture::LevelAt| {
                let change = at.change.as_ref().map(|name| load.conv(name, at.channels, at.channels));
                Ok(Level { blocks: at.blocks.iter().map(block).collect::<Result<_>>()?, change: change.transpose()? })
            };
            levels.iter().map(level).collect()
        };
        let first = config.channels[0];
        Ok(Self {
            time: Time::load(load, &config, &architecture)?,
            conv_in: load.conv("conv_in", config.in_channels, first)?,
            down: levels(&architecture.down)?,
            mid: architecture.mid.iter().map(block).collect::<Result<_>>()?,
            up: levels(&architecture.up)?,
            norm_out: load.group_norm("conv_norm_out", first, config.groups, config.eps)?,
            conv_out: load.conv("conv_out", first, config.out_channels)?,
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
        let block = |b: &Block| b.resnet.values() + b.transformer.as_ref().map_or(0, Transformer::values);
        let changes = self.down.iter().chain(&self.up).filter_map(|level| level.change.as_ref());
        let ends = [&self.conv_in, &self.conv_out];
        self.time.values()
            + self.blocks().map(block).sum::<usize>()
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
        self.time.table(timesteps)
    }
}
