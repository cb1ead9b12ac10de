//! `UNet2DConditionModel` of the SD 1.x and 2.x family (Rombach et al. 2022; Ronneberger et al. 2015), NHWC.
//!
//! What a caption or a timestep fixes is computed before the steps begin: keys and values of the cross-attentions per
//! caption ([`UNet::tell`]), biases of the residual blocks per timestep ([`Time`]). Both guidance branches go through
//! in one call, and what precedes the first cross-attention is computed for one of them only.

mod architecture;
mod config;
mod count;
mod forward;
mod time;
mod transformer;

pub use config::{Config, Mid};
pub use count::Flops;
pub use time::Time;

use crate::bail;
use crate::error::Result;
use crate::layers::{Backend, Layers, Load, ResNet, Resolution};
use architecture::{Architecture, BlockAt, LevelAt};
use transformer::Transformer;

/// The network with its weights.
#[derive(Debug)]
pub struct UNet<B: Backend> {
    config: Config,
    conv_in: B::Conv,
    down: Vec<Level<B>>,
    mid: Vec<Block<B>>,
    up: Vec<Level<B>>,
    /// The last block of the way up, beside the others: it is computed where these are not.
    last: Block<B>,
    norm_out: B::GroupNorm,
    conv_out: B::Conv,
}

/// The blocks of one resolution, and the convolution to the next one.
#[derive(Debug)]
struct Level<B: Backend> {
    channels: usize,
    blocks: Vec<Block<B>>,
    change: Option<B::Conv>,
}

/// A residual block, where its bias lies in a row of the time table, and perhaps a transformer.
#[derive(Debug)]
struct Block<B: Backend> {
    resnet: ResNet<B>,
    offset: usize,
    transformer: Option<Transformer<B>>,
}

impl<B: Backend> UNet<B> {
    /// Reads the weights by their diffusers names.
    pub fn load(config: Config, from: &mut impl Load<B>) -> Result<Self> {
        let architecture = Architecture::new(&config);
        let first = config.channels[0];
        let conv_in = from.conv("conv_in", (config.in_channels, first), Resolution::Same)?;
        let (mut down, mut mid, mut up) = (Vec::new(), Vec::new(), Vec::new());
        for at in &architecture.down {
            down.push(Level::load(from, at, Resolution::Halved, &config)?);
        }
        for at in &architecture.mid {
            mid.push(Block::load(from, at, &config)?);
        }
        for at in &architecture.up {
            up.push(Level::load(from, at, Resolution::Enlarged, &config)?);
        }
        let Some(last) = up.last_mut().and_then(|level: &mut Level<B>| level.blocks.pop()) else {
            bail!(Data, "unet/config.json: `block_out_channels` and `layers_per_block` leave no block on the way up");
        };
        Ok(Self {
            conv_in,
            down,
            mid,
            up,
            last,
            norm_out: from.group_norm("conv_norm_out", first, config.groups, config.eps)?,
            conv_out: from.conv("conv_out", (first, config.out_channels), Resolution::Same)?,
            config,
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every transformer, in the order of their keys and values.
    fn transformers(&self) -> impl Iterator<Item = &Transformer<B>> {
        let down = self.down.iter().flat_map(|level| &level.blocks);
        let blocks = down.chain(&self.mid).chain(self.up.iter().flat_map(|level| &level.blocks));
        let blocks = blocks.chain(std::iter::once(&self.last));
        blocks.filter_map(|block| block.transformer.as_ref())
    }

    /// Keys and values of a caption for every cross-attention, from the call's input, its text states `[T, context]`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn tell(&self, on: &mut impl Layers<B>) -> Result<()> {
        self.transformers().try_for_each(|transformer| transformer.tell(on))
    }
}

impl<B: Backend> Level<B> {
    fn load(from: &mut impl Load<B>, at: &LevelAt, resolution: Resolution, config: &Config) -> Result<Self> {
        let mut blocks = Vec::new();
        for at in &at.blocks {
            blocks.push(Block::load(from, at, config)?);
        }
        let change = match &at.change {
            Some(name) => Some(from.conv(name, (at.channels, at.channels), resolution)?),
            None => None,
        };
        Ok(Self { channels: at.channels, blocks, change })
    }
}

impl<B: Backend> Block<B> {
    fn load(from: &mut impl Load<B>, at: &BlockAt, config: &Config) -> Result<Self> {
        let resnet = ResNet::load(from, &at.name, (&at.parts, at.outputs), config.groups, config.eps)?;
        let transformer = match &at.transformer {
            Some(transformer) => Some(Transformer::load(from, transformer, at.outputs, config)?),
            None => None,
        };
        Ok(Self { resnet, offset: at.offset, transformer })
    }
}
