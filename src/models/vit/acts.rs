//! What a ViT remembers between forward and backward.

use super::config::VitConfig;
use super::drop_path::DropPath;
use super::gradients::VitGradients;
use super::shape::{BlockShape, Span};
use crate::layers::training::{Buffer, Dropped, Kind, Layout};

/// Activations of one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockActs {
    pub norm1: Buffer,
    pub stats1: Buffer,
    pub qkv: Buffer,
    /// What the attention reads: `qkv`, or its norms, and what these keep.
    pub heads: Buffer,
    pub qk_stats: Buffer,
    pub lse: Buffer,
    pub attention: Buffer,
    pub middle: Buffer,
    pub norm2: Buffer,
    pub stats2: Buffer,
    pub hidden: Buffer,
    pub gelu: Buffer,
    /// Whether norms and GELU are not held: their places are scratch of the backward, where they are computed again.
    pub again: bool,
}

impl BlockActs {
    /// `again` where norms and GELU are not held.
    fn new(
        layout: &mut Layout,
        group: &'static str,
        name: &str,
        shape: BlockShape,
        again: Option<&VitGradients>,
    ) -> Self {
        let ((all, out), d) = (shape.rows(), shape.width);
        // Each is read before a gradient takes its place: a norm by the weights behind it, GELU by those of fc2.
        let places = again
            .map(|back| [back.dnorm.first(all * d), back.dnorm.first(out * d), back.dhidden.first(out * shape.hidden)]);
        let mut take = |what: &str, len, kind| layout.take(group, format!("{name}.{what}"), len, kind);
        let (rounded, exact) = (Kind::Rounded, Kind::Exact);
        let [norm1, norm2, gelu] = places.unwrap_or_else(|| {
            [("norm1", all * d), ("norm2", out * d), ("mlp.act", out * shape.hidden)]
                .map(|(name, len)| take(name, len, rounded))
        });
        let (stats1, qkv) = (take("norm1.stats", all * 2, exact), take("attn.qkv", all * 3 * d, rounded));
        let (heads, qk_stats) = match (shape.qk_norm, again) {
            (false, _) => (qkv, qkv.first(0)),
            (true, None) => {
                (take("attn.qk_norm", all * 3 * d, rounded), take("attn.qk_norm.stats", all * 4 * shape.heads, exact))
            }
            (true, Some(back)) => {
                (back.heads.first(all * 3 * d), take("attn.qk_norm.stats", all * 4 * shape.heads, exact))
            }
        };
        Self {
            norm1,
            stats1,
            qkv,
            heads,
            qk_stats,
            lse: take("attn.lse", shape.attention().lse_len(), exact),
            attention: take("attn", out * d, rounded),
            middle: take("attn.proj", out * d, rounded),
            norm2,
            stats2: take("norm2.stats", out * 2, exact),
            hidden: take("mlp.fc1", out * shape.hidden, rounded),
            gelu,
            again: again.is_some(),
        }
    }

    /// With `cut` to each of its buffers.
    fn map(self, cut: impl Fn(Buffer) -> Buffer) -> Self {
        let Self { norm1, stats1, qkv, heads, qk_stats, lse, attention, middle, norm2, stats2, hidden, gelu, again } =
            self;
        Self {
            norm1: cut(norm1),
            stats1: cut(stats1),
            qkv: cut(qkv),
            heads: cut(heads),
            qk_stats: cut(qk_stats),
            lse: cut(lse),
            attention: cut(attention),
            middle: cut(middle),
            norm2: cut(norm2),
            stats2: cut(stats2),
            hidden: cut(hidden),
            gelu: cut(gelu),
            again,
        }
    }

    /// What is held, by timm's module names, in the order it is computed.
    fn named(&self) -> impl Iterator<Item = (&'static str, Buffer)> {
        let all = [
            ("norm1", self.norm1),
            ("attn.qkv", self.qkv),
            ("attn.qk_norm", self.heads),
            ("attn.softmax", self.attention),
            ("attn.proj", self.middle),
            ("norm2", self.norm2),
            ("mlp.fc1", self.hidden),
            ("mlp.act", self.gelu),
        ];
        let (again, normed) = (self.again, self.heads != self.qkv);
        let held = move |name: &str| !(again && ["norm1", "attn.qk_norm", "norm2", "mlp.act"].contains(&name));
        all.into_iter().filter(move |(name, _)| held(name) && (normed || *name != "attn.qk_norm"))
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
    /// Which branches its images leave out, the first of which is image so many of the step.
    drop: Option<(DropPath, usize)>,
}

impl TrunkActs {
    /// Every block with buffers of its own. With `again`, the scratch of the backward, neither norms nor GELUs are
    /// held: the backward computes them there once more, GELU from its rounded input.
    pub fn new(
        layout: &mut Layout,
        group: &'static str,
        config: &VitConfig,
        span: Span,
        again: Option<&VitGradients>,
    ) -> Self {
        let features = take_features(layout, group, config, span);
        Self::shared(layout, group, config, (span, features), (config.depth, config.depth), again)
    }

    /// For no backward: two streams take turns, and all blocks but the last share their buffers.
    pub fn in_passing(layout: &mut Layout, group: &'static str, config: &VitConfig, span: Span) -> Self {
        let features = take_features(layout, group, config, span);
        Self::shared(layout, group, config, (span, features), (2, 1), None)
    }

    /// With so many buffers for the inputs of blocks, and for the activations of blocks before the last.
    fn shared(
        layout: &mut Layout,
        group: &'static str,
        config: &VitConfig,
        (span, features): (Span, Buffer),
        (streams, blocks): (usize, usize),
        again: Option<&VitGradients>,
    ) -> Self {
        let (VitConfig { width, depth, .. }, Span { n, tokens, leaving }) = (config, span);
        let inputs: Vec<Buffer> = (0..streams.min(*depth))
            .map(|i| layout.take(group, format!("blocks.{i}.input"), n * tokens * width, Kind::Rounded))
            .collect();
        let last = layout.take(group, "norm.input", n * leaving * width, Kind::Rounded);
        let earlier: Vec<BlockActs> = (0..blocks.min(depth - 1))
            .map(|i| BlockActs::new(layout, group, &format!("blocks.{i}"), config.block_shape(span, i), again))
            .collect();
        let at = depth - 1;
        let end = BlockActs::new(layout, group, &format!("blocks.{at}"), config.block_shape(span, at), again);
        Self {
            span,
            streams: (0..*depth).map(|i| inputs[i % inputs.len()]).chain([last]).collect(),
            blocks: (0..at).map(|i| earlier[i % earlier.len()]).chain([end]).collect(),
            norm_stats: layout.take(group, "norm.stats", 2 * features.len() / width, Kind::Exact),
            features,
            drop: None,
        }
    }

    /// The same buffers for `n` images, no more than these are of, whose output goes to `features [N, leaving, D]`.
    pub fn first(&self, n: usize, features: Buffer) -> Self {
        let first = |buffer: Buffer| buffer.first(buffer.len() / self.span.n * n);
        Self {
            span: Span { n, ..self.span },
            streams: self.streams.iter().copied().map(first).collect(),
            blocks: self.blocks.iter().map(|block| block.map(first)).collect(),
            norm_stats: first(self.norm_stats),
            features,
            drop: None,
        }
    }

    /// The branches of a block that some of its images leave out.
    pub(super) fn dropped(&self, block: usize, shape: BlockShape) -> Option<[Dropped; 2]> {
        self.drop.and_then(|(drop, first)| drop.of(block, first, shape))
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
        all.retain(|(_, values)| !values.is_empty());
        all
    }
}

fn take_features(layout: &mut Layout, group: &'static str, config: &VitConfig, span: Span) -> Buffer {
    layout.take(group, "features", span.n * span.leaving * config.width, Kind::Rounded)
}

/// Tokens before a norm that is before the blocks, and its statistics; none where there is no such norm.
fn take_before_norm(layout: &mut Layout, group: &'static str, config: &VitConfig, n: usize) -> Option<[Buffer; 2]> {
    let rows = n * config.tokens();
    config.variant.norm_pre.then(|| {
        [
            layout.take(group, "patch_embed", rows * config.width, Kind::Rounded),
            layout.take(group, "norm_pre.stats", 2 * rows, Kind::Exact),
        ]
    })
}

fn take_patches(layout: &mut Layout, group: &'static str, config: &VitConfig, n: usize) -> Buffer {
    let patch = config.patch_shape(n);
    layout.take(group, "patches", n * patch.patches() * patch.patch_len(), Kind::Rounded)
}

/// Activations of one batch of a [`super::Vit`].
#[derive(Clone, Debug)]
pub struct VitActs {
    pub(super) patches: Buffer,
    /// Tokens before the norm before the blocks, and its statistics, where there is one.
    pub(super) before_norm: Option<[Buffer; 2]>,
    pub(super) trunk: TrunkActs,
}

impl VitActs {
    /// Of `n` images, every block with buffers of its own.
    pub fn new(layout: &mut Layout, config: &VitConfig, n: usize) -> Self {
        let features = take_features(layout, "activations", config, config.class_span(n));
        Self::with_features(layout, config, n, features, None)
    }

    /// [`VitActs::new`] with `features [N, D]` taken before; `again` as of [`TrunkActs::new`].
    pub fn with_features(
        layout: &mut Layout,
        config: &VitConfig,
        n: usize,
        features: Buffer,
        again: Option<&VitGradients>,
    ) -> Self {
        let (group, depth, span) = ("activations", config.depth, config.class_span(n));
        let patches = take_patches(layout, group, config, n);
        let before_norm = take_before_norm(layout, group, config, n);
        let trunk = TrunkActs::shared(layout, group, config, (span, features), (depth, depth), again);
        Self { patches, before_norm, trunk }
    }

    /// Of `n` images that have no backward.
    pub fn in_passing(layout: &mut Layout, config: &VitConfig, n: usize) -> Self {
        let patches = take_patches(layout, "encoder", config, n);
        let before_norm = take_before_norm(layout, "encoder", config, n);
        Self { patches, before_norm, trunk: TrunkActs::in_passing(layout, "encoder", config, config.class_span(n)) }
    }

    /// Of `n` images all of whose tokens leave, with no norm behind them ([`super::Vit::forward_tokens`]).
    pub fn of_tokens(layout: &mut Layout, config: &VitConfig, n: usize, again: Option<&VitGradients>) -> Self {
        let (group, span) = ("activations", config.token_span(n));
        let patches = take_patches(layout, group, config, n);
        let before_norm = take_before_norm(layout, group, config, n);
        let none = layout.take(group, "features", 0, Kind::Rounded);
        let all = (config.depth, config.depth);
        Self { patches, before_norm, trunk: TrunkActs::shared(layout, group, config, (span, none), all, again) }
    }

    /// What leaves the last block `[N, leaving, D]`.
    pub fn output(&self) -> Buffer {
        self.trunk.streams[self.trunk.blocks.len()]
    }

    /// What leaves block number `blocks`, counted from 1.
    pub fn after(&self, blocks: usize) -> Buffer {
        self.trunk.streams[blocks]
    }

    /// The same buffers for `n` images, no more than these are of, whose features go to `features [N, D]`.
    pub fn first(&self, n: usize, features: Buffer) -> Self {
        let first = |buffer: Buffer| buffer.first(buffer.len() / self.images() * n);
        let before_norm = self.before_norm.map(|both| both.map(first));
        Self { patches: first(self.patches), before_norm, trunk: self.trunk.first(n, features) }
    }

    /// The same buffers for images that leave branches out, the first of which is image `first` of the step.
    pub fn dropping(mut self, drop: DropPath, first: usize) -> Self {
        self.trunk.drop = Some((drop, first));
        self
    }

    /// The same buffers for images that keep all branches.
    pub fn whole(&self) -> Self {
        let trunk = TrunkActs { drop: None, ..self.trunk.clone() };
        Self { trunk, ..*self }
    }

    /// How many images.
    pub fn images(&self) -> usize {
        self.trunk.span.n
    }

    /// The features `[N, D]` of the last forward.
    pub fn features(&self) -> Buffer {
        self.trunk.features
    }

    /// Every activation in the order it was computed, by name: to find the first that is not finite.
    pub fn named(&self) -> Vec<(String, Buffer)> {
        let mut all = vec![("patch_embed.unfold".to_owned(), self.patches)];
        all.extend(self.before_norm.map(|[tokens, _]| ("patch_embed".to_owned(), tokens)));
        let input = if self.before_norm.is_some() { "norm_pre" } else { "patch_embed" };
        all.extend(self.trunk.named(input, ""));
        all
    }
}
