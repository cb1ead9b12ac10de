//! The ViT on CUDA: the CPU network's layers over bf16 activations; all memory comes from the run's arena.

use half::bf16;

use super::block_cuda::{Back, BlockActs, Pass};
use super::{EPS, Vit};
use crate::bail;
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::ops::layernorm::cuda::{self as layernorm, Branch};
use crate::ops::linear::{self, cuda as fully_connected};
use crate::ops::patch_embed::cuda::{self as patch_embed, Weights};
use crate::ops::self_attention::cuda::HEAD_DIMS;
use crate::weights::DeviceParams;

/// Activations of one batch and the scratch of its backward.
#[derive(Clone, Debug)]
pub struct CudaActs {
    n: usize,
    patches: View<bf16>,
    embedded: View<bf16>,
    /// Inputs of the blocks, then the class tokens after the last one.
    streams: Vec<View<bf16>>,
    blocks: Vec<BlockActs>,
    norm_stats: View<f32>,
    features: View<bf16>,
    back: Back,
}

impl CudaActs {
    /// Takes the buffers for `n` images per step.
    pub fn new(arena: &mut Arena, vit: &Vit, n: usize) -> Self {
        let config = vit.config();
        let patch = config.patch_shape(n);
        let (rows, width) = (n * config.tokens(), config.width);
        let group = "activations";
        let patches = arena.take(group, "patches", n * patch.patches() * patch.patch_len());
        let embedded = arena.take(group, "patch_embed.proj", n * patch.patches() * width);
        let mut streams: Vec<_> =
            (0..config.depth).map(|i| arena.take(group, format!("blocks.{i}.input"), rows * width)).collect();
        streams.push(arena.take(group, "norm.input", n * width));
        let shapes = || (0..config.depth).map(|i| vit.shape(n, i));
        let blocks = shapes()
            .enumerate()
            .map(|(i, shape)| BlockActs::new(arena, group, &format!("blocks.{i}"), shape))
            .collect();
        let norm_stats = arena.take(group, "norm.stats", 2 * n);
        let features = arena.take(group, "features", n * width);
        let group = "backward scratch";
        let full = if config.depth > 1 { rows } else { n };
        let scratch = shapes()
            .map(|shape| shape.scratch_len())
            .chain([
                layernorm::scratch_len(layernorm::Shape::dense(n, width)),
                patch_embed::scratch_len(patch),
                fully_connected::backward_weight_scratch_len(vit.patch_linear(n)),
            ])
            .max();
        let back = Back {
            dx: arena.take(group, "d stream", rows * width),
            dlast: arena.take(group, "d class tokens", n * width),
            dnorm: arena.take(group, "d norm", rows * width),
            datt: arena.take(group, "d attention", full * width),
            dqkv: arena.take(group, "d qkv", rows * 3 * width),
            dhidden: arena.take(group, "d hidden", full * config.hidden()),
            scratch: arena.take(group, "partial sums", scratch.unwrap_or(0)),
        };
        Self { n, patches, embedded, streams, blocks, norm_stats, features, back }
    }

    /// The features `[N, D]` of the last forward.
    pub fn features(&self) -> View<bf16> {
        self.features
    }

    /// Every activation in the order it was computed, by name: to find the first that is not finite.
    pub fn named(&self) -> Vec<(String, View<bf16>)> {
        let mut all = vec![("patch_embed.unfold".to_owned(), self.patches)];
        for (i, block) in self.blocks.iter().enumerate() {
            let name = if i == 0 { "patch_embed".into() } else { format!("blocks.{}.mlp.fc2", i - 1) };
            all.push((name, self.streams[i]));
            all.extend(block.named().map(|(name, values)| (format!("blocks.{i}.{name}"), values)));
        }
        all.push((format!("blocks.{}.mlp.fc2", self.blocks.len().saturating_sub(1)), self.streams[self.blocks.len()]));
        all.push(("norm".into(), self.features));
        all
    }
}

impl Vit {
    /// # Errors
    /// Usage error if the kernels do not take these sizes.
    pub fn check_cuda(&self) -> Result<()> {
        let config = self.config();
        let head_dim = config.width / config.heads;
        if !HEAD_DIMS.contains(&head_dim) {
            bail!(
                Usage,
                "--width {} with --heads {} gives heads of {head_dim}; the CUDA kernels take heads of 32 or 64: choose --heads {} or --device cpu",
                config.width,
                config.heads,
                (config.width / 64).max(1)
            );
        }
        if config.channels != 3 {
            bail!(Usage, "images of {} channels: the CUDA kernels take 3; use --device cpu", config.channels);
        }
        Ok(())
    }

    fn patch_linear(&self, n: usize) -> linear::Shape {
        let patch = self.config().patch_shape(n);
        linear::Shape { rows: n * patch.patches(), inputs: patch.patch_len(), outputs: patch.dim }
    }

    /// Queues the features `[N, D]` (in `acts`) of images `[N, H, W, 3]` in u8; keeps what [`Vit::backward_cuda`] needs.
    pub fn forward_cuda(&self, gpu: &Gpu, params: &DeviceParams, acts: &CudaActs, images: View<u8>) -> Result<()> {
        let n = acts.n;
        let shape = self.config().patch_shape(n);
        patch_embed::unfold(gpu, acts.patches, images, shape)?;
        let w = params.bf16(self.patch_w);
        fully_connected::forward(gpu, acts.embedded, acts.patches, w, None, self.patch_linear(n))?;
        let [b, cls, pos] = [self.patch_b, self.cls, self.pos].map(|p| params.f32(p));
        patch_embed::tokens(gpu, acts.streams[0], acts.embedded, Weights { b, cls, pos }, shape)?;
        let pass = Pass { gpu, params };
        for (i, block) in self.blocks.iter().enumerate() {
            block.forward_cuda(pass, acts.streams[i + 1], acts.streams[i], &acts.blocks[i], self.shape(n, i))?;
        }
        let [w, b] = [self.norm_w, self.norm_b].map(|p| params.f32(p));
        let last = acts.streams[self.blocks.len()];
        let shape = layernorm::Shape::dense(n, self.config().width);
        layernorm::forward(gpu, acts.features, acts.norm_stats, last, w, b, EPS, shape)
    }

    /// Queues adding the gradients of the parameters, given `dfeatures [N, D]`. `acts` are those of the last [`Vit::forward_cuda`].
    pub fn backward_cuda(
        &self,
        gpu: &Gpu,
        params: &DeviceParams,
        acts: &CudaActs,
        dfeatures: View<bf16>,
    ) -> Result<()> {
        let (n, back) = (acts.n, &acts.back);
        let pass = Pass { gpu, params };
        let last = (acts.streams[self.blocks.len()], acts.norm_stats);
        let shape = layernorm::Shape::dense(n, self.config().width);
        let to = (back.dlast, Branch::None);
        pass.norm_backward([self.norm_w, self.norm_b], to, dfeatures, last, back.scratch, shape)?;
        for (i, block) in self.blocks.iter().enumerate().rev() {
            block.backward_cuda(pass, back, acts.streams[i], &acts.blocks[i], self.shape(n, i))?;
        }
        let shape = self.config().patch_shape(n);
        let [b, cls, pos] = [self.patch_b, self.cls, self.pos].map(|p| params.grad(p));
        let dembedded = back.dnorm.slice(0..n * shape.patches() * shape.dim);
        patch_embed::backward(gpu, Weights { b, cls, pos }, dembedded, back.dx, back.scratch, shape)?;
        let (linear, dw) = (self.patch_linear(n), params.grad(self.patch_w));
        fully_connected::backward_weight(gpu, dw, None, dembedded, acts.patches, back.scratch, linear)
    }
}
