//! What a ViT remembers between forward and backward, and the scratch of its backward.

use super::block::{BlockActs, BlockShape};
use super::{Vit, VitConfig};
use crate::device::Plan;

/// The residual stream: the input of every block, and the class tokens after the last one.
#[derive(Debug)]
pub(super) struct Streams {
    /// `[N, T, D]` each.
    pub x: Vec<Vec<f32>>,
    /// `[N, D]`.
    pub last: Vec<f32>,
}

impl Streams {
    /// `count` stream buffers for `n` images, at most one per block.
    pub fn new(plan: &mut Plan, group: &'static str, config: &VitConfig, n: usize, count: usize) -> Self {
        let len = n * config.tokens() * config.width;
        let x = (0..count.min(config.depth)).map(|i| plan.f32(group, format!("blocks.{i}.input"), len)).collect();
        Self { x, last: plan.f32(group, "norm.input", n * config.width) }
    }

    pub fn truncate(&mut self, config: &VitConfig, n: usize) {
        self.x.iter_mut().for_each(|x| x.truncate(n * config.tokens() * config.width));
        self.last.truncate(n * config.width);
    }

    /// Input and output of block `i` when every block has a buffer of its own.
    pub fn input_and_output(&mut self, i: usize) -> (&[f32], &mut [f32]) {
        let (head, tail) = self.x.split_at_mut(i + 1);
        (&head[i], tail.first_mut().unwrap_or(&mut self.last))
    }

    /// Input and output of block `i` when two buffers take turns.
    pub fn input_and_output_in_turn(&mut self, i: usize, last: usize) -> (&[f32], &mut [f32]) {
        let Self { x, last: class_tokens } = self;
        if i == last {
            return (&x[i % x.len()], class_tokens);
        }
        let (even, odd) = x.split_at_mut(1);
        if i.is_multiple_of(2) { (&even[0], &mut odd[0]) } else { (&odd[0], &mut even[0]) }
    }
}

/// Gradients on their way back, shared by all blocks.
#[derive(Debug)]
pub(super) struct Back {
    /// Gradient of the stream `[N, T, D]`.
    pub dx: Vec<f32>,
    /// Gradient of the class tokens after (and inside) the last block `[N, D]`.
    pub dlast: Vec<f32>,
    /// Of a norm's output `[N, T, D]`.
    pub dnorm: Vec<f32>,
    /// Of the attention's output `[N, T, D]`.
    pub datt: Vec<f32>,
    /// `[N, T, 3D]`.
    pub dqkv: Vec<f32>,
    /// Of the MLP's hidden layer before its GELU `[N, T, 4D]`.
    pub dhidden: Vec<f32>,
}

/// Activations of one batch of a [`Vit`]; all memory comes from the plan.
#[derive(Debug)]
pub struct VitActs {
    pub(super) n: usize,
    pub(super) patches: Vec<f32>,
    pub(super) streams: Streams,
    pub(super) blocks: Vec<BlockActs>,
    pub(super) norm_stats: Vec<f32>,
    pub(super) features: Vec<f32>,
    pub(super) back: Back,
}

impl VitActs {
    /// Takes the buffers for `n` images per step from `plan`.
    pub fn new(plan: &mut Plan, vit: &Vit, n: usize) -> Self {
        let config = vit.config();
        let patch = config.patch_shape(n);
        let (rows, width) = (n * config.tokens(), config.width);
        let group = "activations";
        let patches = plan.f32(group, "patches", n * patch.patches() * patch.patch_len());
        let streams = Streams::new(plan, group, config, n, config.depth);
        let shape = |i| -> BlockShape { vit.shape(n, i) };
        let blocks = (0..config.depth).map(|i| BlockActs::new(plan, group, &format!("blocks.{i}"), shape(i))).collect();
        let norm_stats = plan.f32(group, "norm.stats", 2 * n);
        let features = plan.f32(group, "features", n * width);
        let group = "backward scratch";
        let full = if config.depth > 1 { rows } else { n };
        let back = Back {
            dx: plan.f32(group, "d stream", rows * width),
            dlast: plan.f32(group, "d class tokens", n * width),
            dnorm: plan.f32(group, "d norm", rows * width),
            datt: plan.f32(group, "d attention", full * width),
            dqkv: plan.f32(group, "d qkv", rows * 3 * width),
            dhidden: plan.f32(group, "d hidden", full * config.hidden()),
        };
        Self { n, patches, streams, blocks, norm_stats, features, back }
    }

    /// The features `[N, D]` of the last forward.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// Every activation in the order it was computed, by name: to find the first that is not finite.
    pub fn named(&self) -> Vec<(String, &[f32])> {
        let mut all: Vec<(String, &[f32])> = vec![("patch_embed.unfold".into(), &self.patches)];
        for (i, (x, block)) in self.streams.x.iter().zip(&self.blocks).enumerate() {
            all.push((if i == 0 { "patch_embed".into() } else { format!("blocks.{}.mlp.fc2", i - 1) }, x));
            all.extend(block.named().map(|(name, values)| (format!("blocks.{i}.{name}"), values)));
        }
        all.push((format!("blocks.{}.mlp.fc2", self.blocks.len().saturating_sub(1)), &self.streams.last));
        all.push(("norm".into(), &self.features));
        all
    }
}
