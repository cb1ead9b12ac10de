//! What a ViT remembers between forward and backward, and the scratch of its backward.

use super::config::VitConfig;
use super::shape::{BlockShape, Span};
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

/// What a [`super::Trunk`] remembers of one batch.
#[derive(Clone, Debug)]
pub struct TrunkActs {
    pub(super) span: Span,
    /// The residual stream: the input of every block `[N, T, D]`, and what leaves the last one `[N, leaving, D]`.
    pub(super) streams: Vec<Buffer>,
    pub(super) blocks: Vec<BlockActs>,
    pub(super) norm_stats: Buffer,
    pub(super) features: Buffer,
}

impl TrunkActs {
    /// Every block with buffers of its own.
    pub fn new(layout: &mut Layout, group: &'static str, config: &VitConfig, span: Span) -> Self {
        Self::shared(layout, group, config, span, (config.depth, config.depth))
    }

    /// With so many buffers for the inputs of blocks, and for the activations of blocks before the last.
    fn shared(
        layout: &mut Layout,
        group: &'static str,
        config: &VitConfig,
        span: Span,
        (streams, blocks): (usize, usize),
    ) -> Self {
        let (VitConfig { width, depth, .. }, Span { n, tokens, leaving }) = (config, span);
        let inputs: Vec<Buffer> = (0..streams.min(*depth))
            .map(|i| layout.take(group, format!("blocks.{i}.input"), n * tokens * width, Kind::Rounded))
            .collect();
        let last = layout.take(group, "norm.input", n * leaving * width, Kind::Rounded);
        let earlier: Vec<BlockActs> = (0..blocks.min(depth - 1))
            .map(|i| BlockActs::new(layout, group, &format!("blocks.{i}"), config.block_shape(span, i)))
            .collect();
        let at = depth - 1;
        let end = BlockActs::new(layout, group, &format!("blocks.{at}"), config.block_shape(span, at));
        Self {
            span,
            streams: (0..*depth).map(|i| inputs[i % inputs.len()]).chain([last]).collect(),
            blocks: (0..at).map(|i| earlier[i % earlier.len()]).chain([end]).collect(),
            norm_stats: layout.take(group, "norm.stats", 2 * n * leaving, Kind::Exact),
            features: layout.take(group, "features", n * leaving * width, Kind::Rounded),
        }
    }

    /// Where the input `[N, T, D]` goes.
    pub fn input(&self) -> Buffer {
        self.streams[0]
    }

    /// The output `[N, leaving, D]` of the last forward.
    pub fn features(&self) -> Buffer {
        self.features
    }

    /// Room for `[N, T, D]` until the forward begins.
    pub fn spare(&self) -> Buffer {
        self.blocks[0].norm1
    }

    /// Every activation in the order it was computed, by name; the input is called `input`, and blocks and norm have
    /// `prefix` before their names.
    pub fn named(&self, input: &str, prefix: &str) -> Vec<(String, Buffer)> {
        let mut all = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let name = if i == 0 { input.to_owned() } else { format!("{prefix}blocks.{}.mlp.fc2", i - 1) };
            all.push((name, self.streams[i]));
            all.extend(block.named().map(|(name, values)| (format!("{prefix}blocks.{i}.{name}"), values)));
        }
        let last = self.blocks.len();
        all.push((format!("{prefix}blocks.{}.mlp.fc2", last - 1), self.streams[last]));
        all.push((format!("{prefix}norm"), self.features));
        all
    }
}

/// Activations of one batch of a [`super::Vit`].
#[derive(Clone, Debug)]
pub struct VitActs {
    pub(super) patches: Buffer,
    pub(super) trunk: TrunkActs,
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

    fn shared(layout: &mut Layout, group: &'static str, config: &VitConfig, n: usize, counts: (usize, usize)) -> Self {
        let patch = config.patch_shape(n);
        let patches = layout.take(group, "patches", n * patch.patches() * patch.patch_len(), Kind::Rounded);
        Self { patches, trunk: TrunkActs::shared(layout, group, config, config.class_span(n), counts) }
    }

    /// The features `[N, D]` of the last forward.
    pub fn features(&self) -> Buffer {
        self.trunk.features
    }

    /// Every activation in the order it was computed, by name: to find the first that is not finite.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let patches = [("patch_embed.unfold".to_owned(), self.patches)];
        patches.into_iter().chain(self.trunk.named("patch_embed", "")).collect()
    }
}

/// Gradients on their way back through a [`super::Trunk`], shared by all blocks.
#[derive(Clone, Copy, Debug)]
pub struct VitGradients {
    /// Gradient of the stream `[N, T, D]`.
    pub(super) dx: Buffer,
    /// Gradient of the class tokens after (and inside) a last block that only they leave `[N, D]`.
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
    /// Of `n` images whose class tokens leave.
    pub fn new(layout: &mut Layout, config: &VitConfig, n: usize) -> Self {
        Self::of(layout, config, config.class_span(n))
    }

    /// Of what goes through a trunk.
    pub fn of(layout: &mut Layout, config: &VitConfig, span: Span) -> Self {
        let (VitConfig { width, depth, .. }, Span { n, tokens, leaving }) = (config, span);
        let (rows, out) = (n * tokens, n * leaving);
        // What leaves the last block may be its class tokens alone.
        let full = if *depth > 1 { rows } else { out };
        let mut take = |name: &str, len| layout.take("backward scratch", name, len, Kind::Rounded);
        Self {
            dx: take("d stream", rows * width),
            dlast: take("d class tokens", if leaving < tokens { out * width } else { 0 }),
            dnorm: take("d norm", rows * width),
            datt: take("d attention", full * width),
            dqkv: take("d qkv", rows * 3 * width),
            dhidden: take("d hidden", full * config.hidden()),
        }
    }

    /// The gradient of the input `[N, T, D]` after a backward.
    pub fn of_input(&self) -> Buffer {
        self.dx
    }

    /// Room for `[N, T, D]` after a backward.
    pub fn spare(&self) -> Buffer {
        self.dnorm
    }
}
