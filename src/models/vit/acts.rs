//! What a ViT remembers between forward and backward, and the scratch of its backward.

use super::config::VitConfig;
use super::shape::BlockShape;
use crate::layers::training::{Buffer, Kind, Layout};

/// Activations of one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockActs {
    pub norm1: Buffer,
    pub stats1: Buffer,
    pub qkv: Buffer,
    pub lse: Buffer,
    pub attention: Buffer,
    pub middle: Buffer,
    pub norm2: Buffer,
    pub stats2: Buffer,
    pub hidden: Buffer,
    pub gelu: Buffer,
}

impl BlockActs {
    fn new(layout: &mut Layout, group: &'static str, name: &str, shape: BlockShape) -> Self {
        let ((all, out), d) = (shape.rows(), shape.width);
        let mut take = |what: &str, len, kind| layout.take(group, format!("{name}.{what}"), len, kind);
        let (rounded, exact) = (Kind::Rounded, Kind::Exact);
        Self {
            norm1: take("norm1", all * d, rounded),
            stats1: take("norm1.stats", all * 2, exact),
            qkv: take("attn.qkv", all * 3 * d, rounded),
            lse: take("attn.lse", shape.attention().lse_len(), exact),
            attention: take("attn", out * d, rounded),
            middle: take("attn.proj", out * d, rounded),
            norm2: take("norm2", out * d, rounded),
            stats2: take("norm2.stats", out * 2, exact),
            hidden: take("mlp.fc1", out * shape.hidden, rounded),
            gelu: take("mlp.act", out * shape.hidden, rounded),
        }
    }

    /// By timm's module names, in the order they are computed.
    fn named(&self) -> [(&'static str, Buffer); 7] {
        [
            ("norm1", self.norm1),
            ("attn.qkv", self.qkv),
            ("attn.softmax", self.attention),
            ("attn.proj", self.middle),
            ("norm2", self.norm2),
            ("mlp.fc1", self.hidden),
            ("mlp.act", self.gelu),
        ]
    }
}

/// Activations of one batch of a [`super::Vit`].
#[derive(Clone, Debug)]
pub struct VitActs {
    pub(super) n: usize,
    pub(super) patches: Buffer,
    /// The residual stream: the input of every block `[N, T, D]`, and the class tokens after the last one `[N, D]`.
    pub(super) streams: Vec<Buffer>,
    pub(super) blocks: Vec<BlockActs>,
    pub(super) norm_stats: Buffer,
    pub(super) features: Buffer,
}

impl VitActs {
    /// Of `n` images, every block with buffers of its own.
    pub fn new(layout: &mut Layout, config: &VitConfig, n: usize) -> Self {
        let depth = config.depth;
        Self::shared(layout, "activations", config, n, (depth, depth))
    }

    /// Of `n` images that have no backward: two streams take turns, and all blocks but the last share their buffers.
    pub fn in_passing(layout: &mut Layout, config: &VitConfig, n: usize) -> Self {
        Self::shared(layout, "encoder", config, n, (2, 1))
    }

    /// With so many buffers for the inputs of blocks, and for the activations of blocks before the last.
    fn shared(
        layout: &mut Layout,
        group: &'static str,
        config: &VitConfig,
        n: usize,
        (streams, blocks): (usize, usize),
    ) -> Self {
        let VitConfig { width, depth, .. } = config;
        let (patch, stream) = (config.patch_shape(n), n * config.tokens() * width);
        let patches = layout.take(group, "patches", n * patch.patches() * patch.patch_len(), Kind::Rounded);
        let inputs: Vec<Buffer> = (0..streams.min(*depth))
            .map(|i| layout.take(group, format!("blocks.{i}.input"), stream, Kind::Rounded))
            .collect();
        let last = layout.take(group, "norm.input", n * width, Kind::Rounded);
        let earlier: Vec<BlockActs> = (0..blocks.min(depth - 1))
            .map(|i| BlockActs::new(layout, group, &format!("blocks.{i}"), config.block_shape(n, i)))
            .collect();
        let at = depth - 1;
        let class = BlockActs::new(layout, group, &format!("blocks.{at}"), config.block_shape(n, at));
        Self {
            n,
            patches,
            streams: (0..*depth).map(|i| inputs[i % inputs.len()]).chain([last]).collect(),
            blocks: (0..at).map(|i| earlier[i % earlier.len()]).chain([class]).collect(),
            norm_stats: layout.take(group, "norm.stats", 2 * n, Kind::Exact),
            features: layout.take(group, "features", n * width, Kind::Rounded),
        }
    }

    /// The features `[N, D]` of the last forward.
    pub fn features(&self) -> Buffer {
        self.features
    }

    /// Every activation in the order it was computed, by name: to find the first that is not finite.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let mut all = vec![("patch_embed.unfold".to_owned(), self.patches)];
        for (i, block) in self.blocks.iter().enumerate() {
            let name = if i == 0 { "patch_embed".into() } else { format!("blocks.{}.mlp.fc2", i - 1) };
            all.push((name, self.streams[i]));
            all.extend(block.named().map(|(name, values)| (format!("blocks.{i}.{name}"), values)));
        }
        all.push((format!("blocks.{}.mlp.fc2", self.blocks.len() - 1), self.streams[self.blocks.len()]));
        all.push(("norm".into(), self.features));
        all
    }
}

/// Gradients on their way back through a [`super::Vit`], shared by all blocks.
#[derive(Clone, Copy, Debug)]
pub struct VitGradients {
    /// Gradient of the stream `[N, T, D]`.
    pub(super) dx: Buffer,
    /// Gradient of the class tokens after (and inside) the last block `[N, D]`.
    pub(super) dlast: Buffer,
    /// Of a norm's output `[N, T, D]`.
    pub(super) dnorm: Buffer,
    /// Of the attention's output `[N, T, D]`.
    pub(super) datt: Buffer,
    /// `[N, T, 3D]`.
    pub(super) dqkv: Buffer,
    /// Of the MLP's hidden layer before its GELU `[N, T, 4D]`.
    pub(super) dhidden: Buffer,
}

impl VitGradients {
    /// Of `n` images.
    pub fn new(layout: &mut Layout, config: &VitConfig, n: usize) -> Self {
        let VitConfig { width, depth, .. } = config;
        let rows = n * config.tokens();
        // What leaves a block is its class tokens alone in the last one.
        let full = if *depth > 1 { rows } else { n };
        let mut take = |name: &str, len| layout.take("backward scratch", name, len, Kind::Rounded);
        Self {
            dx: take("d stream", rows * width),
            dlast: take("d class tokens", n * width),
            dnorm: take("d norm", rows * width),
            datt: take("d attention", full * width),
            dqkv: take("d qkv", rows * 3 * width),
            dhidden: take("d hidden", full * config.hidden()),
        }
    }
}
