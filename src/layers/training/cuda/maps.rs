//! Feature maps on CUDA.

use super::call::Call;
use crate::error::Result;
use crate::layers::training::count::batch_norm_shape;
use crate::layers::training::{BatchNorm, Buffer, Kind, Maps, Numbers, PixelLoss};
use crate::ops::batchnorm::{EPS, cuda as batchnorm};
use crate::ops::bilinear::{self as bilinear_of, cuda as bilinear};
use crate::ops::drop_channels::{self as drop_of, cuda as drop_channels};
use crate::ops::grid_pool::{self as grid_of, cuda as grid_pool};
use crate::ops::max_pool::{self as max_of, cuda as max_pool};
use crate::ops::neighbourhood::{self as neighbourhood_of, cuda as neighbourhood};
use crate::ops::pixel_loss::cuda as pixel_loss;
use crate::ops::spread::{self as spread_of, cuda as spread};
use crate::weights::Param;

impl Maps for Call<'_, '_> {
    fn neighbourhoods(&mut self, y: Buffer, x: Buffer, shape: neighbourhood_of::Shape) -> Result<()> {
        neighbourhood::forward(self.gpu, self.bf16(y), self.bf16(x), shape)
    }

    fn neighbourhoods_backward(&mut self, dx: Buffer, dy: Buffer, shape: neighbourhood_of::Shape) -> Result<()> {
        neighbourhood::backward(self.gpu, self.bf16(dx), self.bf16(dy), shape)
    }

    fn resize(&mut self, y: Buffer, x: Buffer, shape: bilinear_of::Shape, add: bool) -> Result<()> {
        bilinear::forward(self.gpu, self.bf16(y), self.bf16(x), shape, add)
    }

    fn resize_backward(&mut self, dx: Buffer, dy: Buffer, shape: bilinear_of::Shape, add: bool) -> Result<()> {
        bilinear::backward(self.gpu, self.bf16(dx), self.bf16(dy), shape, add)
    }

    fn grid_pool(&mut self, y: Buffer, x: Buffer, shape: grid_of::Shape) -> Result<()> {
        grid_pool::forward(self.gpu, self.bf16(y), self.bf16(x), shape)
    }

    fn grid_pool_backward(&mut self, dx: Buffer, dy: Buffer, shape: grid_of::Shape) -> Result<()> {
        grid_pool::backward(self.gpu, self.bf16(dx), self.bf16(dy), shape)
    }

    fn max_pool(&mut self, y: Buffer, x: Buffer, shape: max_of::Shape) -> Result<()> {
        max_pool::forward(self.gpu, self.bf16(y), self.bf16(x), shape)
    }

    fn max_pool_backward(&mut self, dx: Buffer, dy: Buffer, x: Buffer, shape: max_of::Shape) -> Result<()> {
        max_pool::backward(self.gpu, self.bf16(dx), self.bf16(dy), self.bf16(x), shape)
    }

    fn spread(&mut self, y: Buffer, x: Buffer, bias: Option<Param>, shape: spread_of::Shape) -> Result<()> {
        let bias = bias.map(|bias| self.read().f32(bias));
        spread::forward(self.gpu, self.bf16(y), self.bf16(x), bias, shape)
    }

    fn spread_backward(&mut self, dx: Buffer, dy: Buffer, bias: Option<Param>, shape: spread_of::Shape) -> Result<()> {
        let dbias = bias.map(|bias| self.params.grad(bias));
        spread::backward(self.gpu, self.bf16(dx), dbias, self.bf16(dy), self.memory.scratch, shape)
    }

    fn drop_channels(&mut self, x: Buffer, kept: Numbers, scale: f32, shape: drop_of::Shape) -> Result<()> {
        drop_channels::apply(self.gpu, self.bf16(x), self.run(kept), scale, shape)
    }

    fn pixel_loss(
        &mut self,
        d: Buffer,
        losses: Buffer,
        lse: Buffer,
        logits: Buffer,
        labels: Numbers,
        of: PixelLoss,
    ) -> Result<()> {
        let (lse, logits, labels) = (self.f32(lse), self.f32(logits), self.run(labels));
        pixel_loss::forward(self.gpu, self.f32(losses), lse, logits, labels, of)?;
        pixel_loss::backward(self.gpu, self.bf16(d), logits, lse, labels, of)
    }

    fn batch_norm_infer(&mut self, y: Buffer, x: Buffer, norm: BatchNorm) -> Result<()> {
        let (shape, affine) = (batch_norm_shape(y, BatchNorm { slots: 1, ..norm }), self.norm_weights(norm));
        let stats = self.memory.moments.slice(0..shape.stats_len());
        batchnorm::frozen(self.gpu, stats, self.running(norm), EPS)?;
        match y.kind {
            Kind::Rounded => batchnorm::apply(self.gpu, self.bf16(y), self.bf16(x), stats, affine, norm.relu, shape),
            Kind::Exact => batchnorm::apply(self.gpu, self.f32(y), self.f32(x), stats, affine, norm.relu, shape),
        }
    }
}
