//! A call on a GPU: its tensors, and what a walk is given.

use half::bf16;

use crate::device::cuda::{Arena, Element, Gpu, View};
use crate::error::Result;
use crate::layers::training::count::{Tally, contrast_shape, pair_sizes};
use crate::layers::training::{
    Affine, BatchNorm, Buffer, Contrast, Kind, LayerNorm, Layout, Linear, Numbers, Pairs, PatchEmbed, Queue, Stages,
    Weights,
};
use crate::ops::augment::Scales;
use crate::ops::batchnorm::{EPS, MOMENTUM, cuda as batchnorm};
use crate::ops::contrastive::cuda as contrastive;
use crate::ops::layernorm::cuda as layernorm;
use crate::ops::pairs::cuda as pairs;
use crate::ops::patch_embed::cuda as patch_embed;
use crate::ops::reduce::cuda as reduce;
use crate::weights::{DeviceParams, Param};

/// The tensors of a layout, and what kernels keep between each other.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(super) tensors: Vec<Tensor>,
    pub(super) scratch: View<f32>,
    pub(super) moments: View<f32>,
    /// Whether [`crate::layers::training::Layers::is_finite`] found something.
    pub(super) flag: View<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Tensor {
    Rounded(View<bf16>),
    Exact(View<f32>),
}

impl Memory {
    /// Takes the tensors of `layout`, and the scratch of a walk that `tally` counted.
    pub fn take(arena: &mut Arena, layout: &Layout, tally: &Tally) -> Self {
        let tensor = |(group, name, len, kind): (&'static str, &str, usize, Kind)| match kind {
            Kind::Rounded => Tensor::Rounded(arena.take(group, name, len)),
            Kind::Exact => Tensor::Exact(arena.take(group, name, len)),
        };
        let tensors = layout.tensors().map(tensor).collect();
        let group = "backward scratch";
        Self {
            tensors,
            scratch: arena.take(group, "partial sums", tally.scratch),
            moments: arena.take(group, "moments", tally.moments),
            flag: arena.take(group, "flag", 1),
        }
    }
}

impl Memory {
    /// Waits, and reads `x`, widened.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self, gpu: &Gpu, x: Buffer) -> Result<Vec<f32>> {
        match self.tensors[x.id] {
            Tensor::Rounded(view) => Ok(gpu.read(view.slice(x.range()))?.into_iter().map(bf16::to_f32).collect()),
            Tensor::Exact(view) => gpu.read(view.slice(x.range())),
        }
    }
}

/// A call.
pub struct Call<'a, 's> {
    pub gpu: &'a Gpu,
    pub memory: &'a Memory,
    pub params: DeviceParams,
    /// Running statistics of the batch norms, and whatever else a network keeps but the parameters of a momentum copy.
    pub statistics: View<f32>,
    /// These (with the gradients of the online ones), and how far the copy's running statistics lie behind the online
    /// ones.
    pub momentum: Option<(DeviceParams, usize)>,
    /// Whose are read.
    pub weights: Weights,
    /// `[N, H, W, 3]`.
    pub images: View<u8>,
    /// How their pixels are normalised.
    pub scales: Scales,
    /// What [`Numbers`] are runs of.
    pub numbers: View<u32>,
    /// What changes from step to step.
    pub scalars: View<f32>,
    /// Where the loss goes.
    pub loss: View<f32>,
    /// And what it was when it was noted.
    pub noted: View<f32>,
    pub stages: Stages<'a, 's>,
}

impl Call<'_, '_> {
    pub(super) fn bf16(&self, x: Buffer) -> View<bf16> {
        match self.memory.tensors[x.id] {
            Tensor::Rounded(view) => view.slice(x.range()),
            Tensor::Exact(_) => panic!("{x:?} in bf16"),
        }
    }

    pub(super) fn f32(&self, x: Buffer) -> View<f32> {
        match self.memory.tensors[x.id] {
            Tensor::Exact(view) => view.slice(x.range()),
            Tensor::Rounded(_) => panic!("{x:?} in f32"),
        }
    }

    /// The parameters that are read.
    pub(super) fn read(&self) -> DeviceParams {
        match (self.weights, self.momentum) {
            (Weights::Momentum, Some((params, _))) => params,
            _ => self.params,
        }
    }

    /// Weight and bias as products read them.
    pub(super) fn rounded(&self, at: Linear) -> (View<bf16>, Option<View<bf16>>) {
        (self.read().bf16(at.w), at.b.map(|b| self.read().bf16(b)))
    }

    /// Gain and shift as norms read them.
    pub(super) fn exact(&self, at: Affine) -> [View<f32>; 2] {
        at.map(|param| self.read().f32(param))
    }

    pub(super) fn gradients(&self, at: Affine) -> [View<f32>; 2] {
        at.map(|param| self.params.grad(param))
    }

    /// The places of a batch norm's running mean and variance.
    pub(super) fn running(&self, norm: BatchNorm) -> [View<f32>; 2] {
        let behind = match (self.weights, self.momentum) {
            (Weights::Momentum, Some((_, statistics))) => statistics,
            _ => 0,
        };
        norm.running.map(|param| self.statistics.slice(behind..self.statistics.len()).slice(param.range()))
    }

    /// Gain and shift of a batch norm, where it has them.
    pub(super) fn norm_weights(&self, norm: BatchNorm) -> Option<[View<f32>; 2]> {
        norm.affine.map(|affine| self.exact(affine))
    }

    pub(super) fn batch_norm_of<T: batchnorm::Activation>(
        &self,
        [y, x]: [View<T>; 2],
        stats: View<f32>,
        norm: BatchNorm,
        shape: batchnorm::Shape,
    ) -> Result<()> {
        let (gpu, Memory { moments, scratch, .. }) = (self.gpu, self.memory);
        let settings = batchnorm::Settings { eps: EPS, momentum: MOMENTUM };
        let moments = moments.slice(0..shape.stats_len());
        batchnorm::moments(gpu, moments, x, *scratch, shape)?;
        batchnorm::statistics(gpu, stats, Some(self.running(norm)), moments, settings, shape)?;
        batchnorm::apply(gpu, y, x, stats, self.norm_weights(norm), norm.relu, shape)
    }

    pub(super) fn batch_norm_backward_of<T: batchnorm::Activation>(
        &self,
        [d, x]: [View<T>; 2],
        stats: View<f32>,
        norm: BatchNorm,
        shape: batchnorm::Shape,
    ) -> Result<()> {
        let (gpu, Memory { moments, scratch, .. }) = (self.gpu, self.memory);
        let sums = moments.slice(0..shape.stats_len());
        let gradients = norm.affine.map(|affine| self.gradients(affine));
        let of = batchnorm::Backward { dy: d, x, stats, affine: self.norm_weights(norm), relu: norm.relu };
        batchnorm::backward_sums(gpu, sums, gradients, of, *scratch, shape)?;
        batchnorm::backward_apply(gpu, d, of, sums, 1, shape)
    }

    /// What the loss of `of` looks at.
    pub(super) fn pair_batch(&self, of: Pairs) -> pairs::Batch {
        let (rows, keys, dim) = pair_sizes(of);
        pairs::Batch {
            shape: pairs::Shape { rows, keys, dim },
            rows: self.f32(of.rows),
            keys: self.f32(of.keys),
            labels: of.labels.map(|labels| self.run(labels)),
            temperature: of.temperature,
            scratch: self.memory.scratch,
        }
    }

    /// What `of` gives of the embedding's tensors; in the place of its positions those that are `resized`.
    pub(super) fn embedding(
        &self,
        at: PatchEmbed,
        resized: Option<Buffer>,
        of: impl Fn(Param) -> View<f32>,
    ) -> patch_embed::Weights {
        let pos = resized.map_or_else(|| of(at.pos), |resized| self.f32(resized));
        patch_embed::Weights { b: of(at.b), cls: of(at.cls), pos }
    }

    pub(super) fn run(&self, numbers: Numbers) -> View<u32> {
        self.numbers.slice(numbers.range())
    }

    /// Rows that a contrastive loss compares.
    pub(super) fn rows(&self, rows: Contrast) -> contrastive::Batch {
        let (z, labels, scratch) = (self.f32(rows.z), self.run(rows.labels), self.memory.scratch);
        let queue = rows.queue.map(|at| {
            let [keys, labels] = self.ring(at);
            contrastive::Queue { keys, labels: labels.cast() }
        });
        contrastive::Batch { shape: contrast_shape(rows), z, labels, queue, temperature: rows.temperature, scratch }
    }

    /// Keys and labels of a queue.
    pub(super) fn ring(&self, at: Queue) -> [View<f32>; 2] {
        [at.keys, at.labels].map(|param| self.statistics.slice(param.range()))
    }

    pub(super) fn find<T: Element + reduce::Number>(&self, values: View<T>) -> Result<bool> {
        self.gpu.zero(self.memory.flag)?;
        reduce::find_not_finite(self.gpu, self.memory.flag, values)?;
        Ok(self.gpu.read(self.memory.flag)? == [0])
    }
}

/// Rows of `x` as a norm of `at` sees them.
pub(super) fn norm_shape(x: Buffer, at: LayerNorm) -> layernorm::Shape {
    let d = at.affine[0].len;
    layernorm::Shape::dense(x.len() / d, d)
}
