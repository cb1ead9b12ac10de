//! Training that computes nothing: how many FLOPs a walk stands for and, for a GPU, how much scratch its kernels need.

mod embeddings;
mod losses;
mod maps;

use super::{BatchNorm, Branch, Buffer, Contrast, Dropped, LayerNorm, Layers, Linear, Pairs, Place, QkNorm, Weights};
use crate::error::Result;
use crate::ops::linear::Shape;
#[cfg(cuda_kernels)]
use crate::ops::{batchnorm, layernorm, linear, logit_scale, qk_norm};
use crate::ops::{contrastive, patch_embed, self_attention, token_mean};
use crate::weights::Param;

/// Counts a call. Two FLOPs for each multiply-accumulate of products, attention and loss; elementwise work is not
/// counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Of what belongs to no stage yet.
    flops: f64,
    /// FLOPs of every stage.
    stages: Vec<(&'static str, f64)>,
    /// f32 values that a GPU's kernels keep partial sums in.
    #[cfg(cuda_kernels)]
    pub scratch: usize,
    /// f32 values of the moments of a batch norm.
    #[cfg(cuda_kernels)]
    pub moments: usize,
}

impl Tally {
    /// FLOPs in all.
    pub fn flops(&self) -> f64 {
        self.flops + self.stages.iter().map(|stage| stage.1).sum::<f64>()
    }

    /// FLOPs of the stages called `name`.
    pub fn of_stage(&self, name: &str) -> f64 {
        self.stages.iter().filter(|stage| stage.0 == name).map(|stage| stage.1).sum()
    }

    fn tally_product(&mut self, shape: Shape) -> Result<()> {
        self.flops += shape.flops();
        Ok(())
    }

    #[cfg(cuda_kernels)]
    fn need(&mut self, scratch: usize) {
        self.scratch = self.scratch.max(scratch);
    }

    #[cfg(cuda_kernels)]
    fn normed(&mut self, x: Buffer, norm: BatchNorm) {
        let shape = batch_norm_shape(x, norm);
        self.need(shape.scratch_len());
        self.moments = self.moments.max(shape.stats_len());
    }

    #[cfg(not(cuda_kernels))]
    #[expect(clippy::unused_self)]
    fn normed(&mut self, _: Buffer, _: BatchNorm) {}
}

/// Slots, rows and columns of a batch norm over `x`.
#[cfg(cuda_kernels)]
pub(super) fn batch_norm_shape(x: Buffer, norm: BatchNorm) -> batchnorm::cuda::Shape {
    let cols = norm.cols();
    batchnorm::cuda::Shape { slots: norm.slots, rows: x.len() / cols / norm.slots, cols }
}

/// Rows and slots that a contrastive loss compares.
#[cfg(cuda_kernels)]
pub(super) fn contrast_shape(Contrast { z, lse, queue, .. }: Contrast) -> contrastive::cuda::Shape {
    let slots = queue.map_or(0, |queue| queue.labels.len);
    contrastive::cuda::Shape { slots, ..contrastive::cuda::Shape::whole(lse.len(), z.len() / lse.len()) }
}

fn contrast_flops(Contrast { z, lse, queue, .. }: Contrast) -> (f64, f64) {
    let rows = lse.len();
    contrastive::flops(rows, rows + queue.map_or(0, |queue| queue.labels.len), z.len() / rows)
}

/// Rows, keys, and values of each.
pub(super) fn pair_sizes(Pairs { rows, keys, lse, .. }: Pairs) -> (usize, usize, usize) {
    let dim = rows.len() / lse.len();
    (lse.len(), keys.len() / dim, dim)
}

/// The product of a patch embedding.
pub(super) fn patch_product(shape: patch_embed::Shape) -> Shape {
    Shape { rows: shape.n * shape.patches(), inputs: shape.patch_len(), outputs: shape.dim }
}

impl Layers for Tally {
    fn layer_norm(&mut self, _: Buffer, _: Buffer, _: Buffer, _: LayerNorm) -> Result<()> {
        Ok(())
    }

    fn drop_path(&mut self, _: Buffer, _: (Buffer, usize), _: Dropped) -> Result<()> {
        Ok(())
    }

    fn drop_path_backward(&mut self, _: Buffer, _: Buffer, _: Dropped) -> Result<()> {
        Ok(())
    }

    fn quick_gelu(&mut self, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn quick_gelu_backward(&mut self, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn layer_norm_backward(
        &mut self,
        dx: Buffer,
        _: Branch,
        _: Buffer,
        _: (Buffer, Buffer),
        at: LayerNorm,
    ) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(layernorm::cuda::scratch_len(layernorm::cuda::Shape::dense(
            dx.len() / at.affine[0].len,
            at.affine[0].len,
        )));
        Ok(())
    }

    fn linear(&mut self, _: Buffer, _: Buffer, _: Linear, shape: Shape) -> Result<()> {
        self.tally_product(shape)
    }

    fn linear_residual(&mut self, _: Buffer, _: (Buffer, usize), _: Buffer, _: Linear, shape: Shape) -> Result<()> {
        self.tally_product(shape)
    }

    fn linear_gelu(&mut self, _: Buffer, _: Buffer, _: Buffer, _: Linear, shape: Shape) -> Result<()> {
        self.tally_product(shape)
    }

    fn gelu(&mut self, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn weight_gradient(&mut self, _: Buffer, _: Buffer, _: Linear, shape: Shape) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(linear::cuda::backward_weight_scratch_len(shape));
        self.tally_product(shape)
    }

    fn input_gradient(&mut self, _: Buffer, _: Buffer, _: Param, shape: Shape) -> Result<()> {
        self.tally_product(shape)
    }

    fn input_gradient_gelu(&mut self, _: Buffer, _: Buffer, _: Buffer, _: Param, shape: Shape) -> Result<()> {
        self.tally_product(shape)
    }

    fn qk_norm(&mut self, _: Buffer, _: Buffer, _: Buffer, _: QkNorm, _: self_attention::Shape) -> Result<()> {
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn qk_norm_backward(
        &mut self,
        _: Buffer,
        _: (Buffer, Buffer),
        _: QkNorm,
        shape: self_attention::Shape,
    ) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(qk_norm::cuda::scratch_len(shape.heads()));
        Ok(())
    }

    fn attention(&mut self, _: Buffer, _: Buffer, _: Buffer, shape: self_attention::Shape) -> Result<()> {
        self.flops += shape.flops().0;
        Ok(())
    }

    fn attention_backward(
        &mut self,
        _: Buffer,
        _: Buffer,
        _: Buffer,
        _: (Buffer, Buffer),
        shape: self_attention::Shape,
    ) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(self_attention::cuda::scratch_len(shape));
        self.flops += shape.flops().1;
        Ok(())
    }

    fn batch_norm(&mut self, y: Buffer, _: Buffer, _: Buffer, norm: BatchNorm) -> Result<()> {
        self.normed(y, norm);
        Ok(())
    }

    fn batch_norm_backward(
        &mut self,
        d: Buffer,
        _: Buffer,
        _: (Buffer, Buffer),
        _: Buffer,
        norm: BatchNorm,
    ) -> Result<()> {
        self.normed(d, norm);
        Ok(())
    }

    fn unit_rows(&mut self, _: Buffer, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn unit_rows_backward(&mut self, _: Buffer, _: Buffer, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn scale_rows(&mut self, _: Buffer, _: Buffer, _: Param) -> Result<()> {
        Ok(())
    }

    #[cfg_attr(not(cuda_kernels), expect(unused_variables))]
    fn scale_rows_backward(&mut self, _: Buffer, dy: Buffer, _: Buffer, _: Param) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(logit_scale::cuda::scratch_len(dy.len()));
        Ok(())
    }

    fn add(&mut self, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn token_mean(&mut self, _: Buffer, _: Buffer, _: token_mean::Shape) -> Result<()> {
        Ok(())
    }

    fn token_mean_backward(&mut self, _: Buffer, _: Buffer, _: token_mean::Shape) -> Result<()> {
        Ok(())
    }

    fn unit_weights(&mut self, _: [Buffer; 2], _: Buffer, _: Param) -> Result<()> {
        Ok(())
    }

    fn unit_weights_backward(&mut self, _: Param, _: Buffer, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn product(&mut self, _: Buffer, _: Buffer, _: Buffer, shape: Shape) -> Result<()> {
        self.tally_product(shape)
    }

    fn product_backward(&mut self, _: [Buffer; 2], _: Buffer, _: [Buffer; 2], shape: Shape) -> Result<()> {
        #[cfg(cuda_kernels)]
        self.need(linear::cuda::backward_weight_scratch_len(shape));
        self.tally_product(shape)?;
        self.tally_product(shape)
    }

    fn round(&mut self, _: Buffer, _: Buffer) -> Result<()> {
        Ok(())
    }

    fn switch(&mut self, _: Weights) -> Result<()> {
        Ok(())
    }

    fn freeze(&mut self, _: Param) -> Result<()> {
        Ok(())
    }

    fn stage(&mut self, name: &'static str) -> Result<()> {
        self.stages.push((name, std::mem::take(&mut self.flops)));
        Ok(())
    }

    fn is_finite(&mut self, _: Place) -> Result<bool> {
        Ok(true)
    }
}
