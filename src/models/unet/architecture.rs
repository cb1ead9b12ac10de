//! The blocks that a [`Config`] describes: their names in diffusers' files, their sizes, and their place among all.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::config::Mid;

impl Config {
    /// The layers that can be computed in e4m3, by diffusers' names (the first of several that read the same): those
    /// that read what a norm or a gated activation has just written, 272 of the 339 GMAC of Stable Diffusion 1.5's
    /// products beside attention. Wide stay the first and last convolutions, those that change the resolution,
    /// shortcuts, projections of attention's results, and all that runs once per caption.
    pub fn quantizable(&self) -> BTreeSet<String> {
        let architecture = Architecture::new(self);
        let residual = |at: &BlockAt| ["conv1", "conv2"].map(|layer| format!("{}.{layer}", at.name));
        let transformer = |at: &TransformerAt| {
            let projections = [at.layer("proj_in"), at.block("attn1.to_q"), at.block("attn2.to_q")];
            projections.into_iter().chain([at.gate(), at.feed_forward_out()])
        };
        architecture.blocks().flat_map(residual).chain(architecture.transformers().flat_map(transformer)).collect()
    }

    /// Of those, the ones that read what another stores, with that one's name: it has to be in e4m3 too.
    pub fn quantizable_after(&self) -> BTreeMap<String, String> {
        Architecture::new(self).transformers().map(|at| (at.feed_forward_out(), at.gate())).collect()
    }
}

/// A residual block, perhaps with a transformer behind it.
#[derive(Clone, Debug)]
pub(super) struct BlockAt {
    /// Of its residual block, e.g. `down_blocks.0.resnets.1`.
    pub name: String,
    /// Channels of what it reads: the feature map and, on the way up, a skip.
    pub parts: Vec<usize>,
    pub outputs: usize,
    /// Where its biases begin in a row of the time table.
    pub offset: usize,
    pub transformer: Option<TransformerAt>,
}

/// A transformer of the width of its block.
#[derive(Clone, Debug)]
pub(super) struct TransformerAt {
    /// E.g. `down_blocks.0.attentions.1`.
    pub name: String,
    pub heads: usize,
    /// Its place among all.
    pub index: usize,
}

impl TransformerAt {
    /// A layer of its own.
    pub(super) fn layer(&self, rest: &str) -> String {
        format!("{}.{rest}", self.name)
    }

    /// A layer of its one block.
    pub(super) fn block(&self, rest: &str) -> String {
        format!("{}.transformer_blocks.0.{rest}", self.name)
    }

    /// The gated layer of the feed-forward net, and the one that reads its results.
    pub(super) fn gate(&self) -> String {
        self.block("ff.net.0.proj")
    }

    pub(super) fn feed_forward_out(&self) -> String {
        self.block("ff.net.2")
    }
}

/// The blocks of one resolution, and the name of the convolution to the next one.
#[derive(Clone, Debug)]
pub(super) struct LevelAt {
    pub channels: usize,
    pub blocks: Vec<BlockAt>,
    pub change: Option<String>,
}

/// The whole network between its first and its last convolution.
#[derive(Clone, Debug)]
pub(super) struct Architecture {
    pub down: Vec<LevelAt>,
    pub mid: Vec<BlockAt>,
    pub up: Vec<LevelAt>,
    /// Length of a row of the time table.
    pub time_width: usize,
}

impl Architecture {
    pub(super) fn new(config: &Config) -> Self {
        let (first, levels) = (config.channels[0], config.channels.len());
        let deepest = config.channels[levels - 1];
        let (mut offset, mut transformers) = (0, 0);
        let mut block = |prefix: &str, j: usize, parts: Vec<usize>, level: usize, attention: bool| {
            let outputs = config.channels[level];
            let transformer = attention.then(|| TransformerAt {
                name: format!("{prefix}.attentions.{j}"),
                heads: config.heads[level],
                index: transformers,
            });
            let block = BlockAt { name: format!("{prefix}.resnets.{j}"), parts, outputs, offset, transformer };
            offset += outputs;
            transformers += usize::from(attention);
            block
        };
        let mut down = Vec::new();
        let mut skips = vec![first];
        let mut inputs = first;
        for (i, &channels) in config.channels.iter().enumerate() {
            let name = format!("down_blocks.{i}");
            let mut blocks = Vec::new();
            for j in 0..config.layers[i] {
                blocks.push(block(&name, j, vec![inputs], i, config.down_attention[i]));
                inputs = channels;
                skips.push(channels);
            }
            let change = (i + 1 < levels).then(|| format!("{name}.downsamplers.0.conv"));
            skips.extend(change.is_some().then_some(channels));
            down.push(LevelAt { channels, blocks, change });
        }
        let with_transformer: &[bool] = match config.mid {
            Mid::Without => &[],
            Mid::CrossAttention => &[true, false],
        };
        let mid = with_transformer.iter().enumerate();
        let mid = mid.map(|(j, &attention)| block("mid_block", j, vec![deepest], levels - 1, attention)).collect();
        let mut up = Vec::new();
        for i in 0..levels {
            let (level, name) = (levels - 1 - i, format!("up_blocks.{i}"));
            let channels = config.channels[level];
            let mut blocks = Vec::new();
            for j in 0..config.layers[level] + 1 {
                let skip = skips.pop().unwrap_or(first);
                blocks.push(block(&name, j, vec![inputs, skip], level, config.up_attention[i]));
                inputs = channels;
            }
            let change = (level > 0).then(|| format!("{name}.upsamplers.0.conv"));
            up.push(LevelAt { channels, blocks, change });
        }
        Self { down, mid, up, time_width: offset }
    }

    /// Every block, in the order of the time table.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &BlockAt> {
        let down = self.down.iter().flat_map(|level| &level.blocks);
        down.chain(&self.mid).chain(self.up.iter().flat_map(|level| &level.blocks))
    }

    /// Every transformer, in the order of the time table.
    fn transformers(&self) -> impl Iterator<Item = &TransformerAt> {
        self.blocks().filter_map(|at| at.transformer.as_ref())
    }
}
