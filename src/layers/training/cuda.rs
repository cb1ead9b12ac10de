//! Training on CUDA: bf16 activations, everything queued and nothing waited for, so that an update can be recorded.

mod call;
mod embeddings;
mod losses;
mod maps;

pub use call::{Call, Memory};

use self::call::{Tensor, norm_shape};
use super::count::batch_norm_shape;
use super::{BatchNorm, Branch, Buffer, Dropped, Kind, LayerNorm, Layers, Linear, Place, QkNorm, UNIT_EPS, Weights};
use crate::error::Result;
use crate::ops::activation::cuda as activation;
use crate::ops::add::cuda as add;
use crate::ops::convert::cuda as convert;
use crate::ops::drop_path::cuda as drop_path;
use crate::ops::l2norm::cuda::{self as l2norm, Outputs};
use crate::ops::layernorm::cuda as layernorm;
use crate::ops::linear::{Shape, cuda as linear};
use crate::ops::logit_scale::cuda as logit_scale;
use crate::ops::qk_norm::cuda as qk_norm;
use crate::ops::self_attention::cuda as self_attention;
use crate::ops::token_mean::cuda as token_mean;
use crate::ops::{self_attention as attention_of, token_mean as means_of};
use crate::weights::Param;

impl Layers for Call<'_, '_> {
    fn drop_path(&mut self, y: Buffer, (residual, stride): (Buffer, usize), of: Dropped) -> Result<()> {
        let residual = (self.bf16(residual), stride);
        drop_path::forward(self.gpu, self.bf16(y), residual, self.run(of.kept), of.scale, of.shape)
    }

    fn drop_path_backward(&mut self, dbranch: Buffer, dy: Buffer, of: Dropped) -> Result<()> {
        let [dbranch, dy] = [dbranch, dy].map(|buffer| self.bf16(buffer));
        drop_path::backward(self.gpu, dbranch, dy, self.run(of.kept), of.scale, of.shape)
    }

    fn quick_gelu(&mut self, y: Buffer, x: Buffer) -> Result<()> {
        activation::quick_gelu(self.gpu, self.bf16(y), self.bf16(x))
    }

    fn quick_gelu_backward(&mut self, d: Buffer, x: Buffer) -> Result<()> {
        activation::quick_gelu_backward(self.gpu, self.bf16(d), self.bf16(x))
    }

    fn layer_norm(&mut self, y: Buffer, stats: Buffer, x: Buffer, at: LayerNorm) -> Result<()> {
        let ([gamma, beta], shape) = (self.exact(at.affine), norm_shape(y, at));
        let (y, x, stats) = (self.bf16(y), self.bf16(x), self.f32(stats));
        layernorm::forward(self.gpu, y, stats, x, layernorm::Affine { gamma, beta, eps: at.eps }, shape)
    }

    fn layer_norm_backward(
        &mut self,
        dx: Buffer,
        branch: Branch,
        dy: Buffer,
        (x, stats): (Buffer, Buffer),
        at: LayerNorm,
    ) -> Result<()> {
        let (shape, scratch) = (norm_shape(dx, at), self.memory.scratch);
        let ([dgamma, dbeta], [gamma, _]) = (self.gradients(at.affine), self.exact(at.affine));
        let (dx, dy, x, stats) = (self.bf16(dx), self.bf16(dy), self.bf16(x), self.f32(stats));
        let branch = match branch {
            Branch::None => layernorm::Branch::None,
            Branch::Kept => layernorm::Branch::Every(dx),
            Branch::OneIn(period, class) => layernorm::Branch::OneIn(period, self.bf16(class)),
        };
        let of = layernorm::Backward { dx, branch, dgamma, dbeta, dy, x, stats, gamma, scratch };
        layernorm::backward(self.gpu, of, shape)
    }

    fn linear(&mut self, y: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()> {
        let (x, (w, b)) = (self.bf16(x), self.rounded(at));
        match y.kind {
            Kind::Rounded => linear::forward(self.gpu, self.bf16(y), x, w, b, shape),
            Kind::Exact => linear::forward_f32(self.gpu, self.f32(y), x, w, b, shape),
        }
    }

    fn linear_residual(
        &mut self,
        y: Buffer,
        (residual, stride): (Buffer, usize),
        x: Buffer,
        at: Linear,
        shape: Shape,
    ) -> Result<()> {
        let ((w, b), residual) = (self.rounded(at), (self.bf16(residual), stride));
        linear::forward_residual(self.gpu, self.bf16(y), residual, self.bf16(x), w, b, shape)
    }

    fn linear_gelu(&mut self, y: Buffer, hidden: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()> {
        let (w, b) = self.rounded(at);
        linear::forward_gelu(self.gpu, self.bf16(y), self.bf16(hidden), self.bf16(x), w, b, shape)
    }

    fn gelu(&mut self, y: Buffer, hidden: Buffer) -> Result<()> {
        activation::gelu(self.gpu, self.bf16(y), self.bf16(hidden))
    }

    fn weight_gradient(&mut self, dy: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()> {
        let (dw, db) = (self.params.grad(at.w), at.b.map(|b| self.params.grad(b)));
        let scratch = self.memory.scratch;
        linear::backward_weight(self.gpu, dw, db, self.bf16(dy), self.bf16(x), scratch, shape)
    }

    fn input_gradient(&mut self, dx: Buffer, dy: Buffer, w: Param, shape: Shape) -> Result<()> {
        linear::backward_input(self.gpu, self.bf16(dx), self.bf16(dy), self.read().bf16(w), shape)
    }

    fn input_gradient_gelu(
        &mut self,
        dhidden: Buffer,
        dy: Buffer,
        hidden: Buffer,
        w: Param,
        shape: Shape,
    ) -> Result<()> {
        let (w, hidden) = (self.read().bf16(w), self.bf16(hidden));
        linear::backward_input_gelu(self.gpu, self.bf16(dhidden), self.bf16(dy), w, hidden, shape)
    }

    fn qk_norm(&mut self, y: Buffer, stats: Buffer, qkv: Buffer, at: QkNorm, shape: attention_of::Shape) -> Result<()> {
        let (affine, stats, [y, qkv]) = (self.read().f32(at.affine), self.f32(stats), [y, qkv].map(|x| self.bf16(x)));
        qk_norm::forward(self.gpu, y, stats, qkv, affine, at.eps, shape.heads())
    }

    fn qk_norm_backward(
        &mut self,
        d: Buffer,
        (qkv, stats): (Buffer, Buffer),
        at: QkNorm,
        shape: attention_of::Shape,
    ) -> Result<()> {
        let (affine, daffine) = (self.read().f32(at.affine), self.params.grad(at.affine));
        let ([d, qkv], scratch) = ([d, qkv].map(|x| self.bf16(x)), self.memory.scratch);
        qk_norm::backward(self.gpu, d, daffine, (qkv, self.f32(stats)), affine, scratch, shape.heads())
    }

    fn attention(&mut self, y: Buffer, lse: Buffer, qkv: Buffer, shape: attention_of::Shape) -> Result<()> {
        self_attention::forward(self.gpu, self.bf16(y), self.f32(lse), self.bf16(qkv), shape)
    }

    fn attention_backward(
        &mut self,
        dqkv: Buffer,
        dy: Buffer,
        qkv: Buffer,
        (y, lse): (Buffer, Buffer),
        shape: attention_of::Shape,
    ) -> Result<()> {
        let [dqkv, dout, qkv, out] = [dqkv, dy, qkv, y].map(|buffer| self.bf16(buffer));
        let (lse, scratch) = (self.f32(lse), self.memory.scratch);
        self_attention::backward(self.gpu, self_attention::Backward { dqkv, dout, qkv, out, lse, scratch }, shape)
    }

    fn batch_norm(&mut self, y: Buffer, stats: Buffer, x: Buffer, norm: BatchNorm) -> Result<()> {
        let (shape, stats) = (batch_norm_shape(y, norm), self.f32(stats));
        match y.kind {
            Kind::Rounded => self.batch_norm_of([y, x].map(|buffer| self.bf16(buffer)), stats, norm, shape),
            Kind::Exact => self.batch_norm_of([y, x].map(|buffer| self.f32(buffer)), stats, norm, shape),
        }
    }

    fn batch_norm_backward(
        &mut self,
        d: Buffer,
        _: Buffer,
        (x, stats): (Buffer, Buffer),
        _: Buffer,
        norm: BatchNorm,
    ) -> Result<()> {
        let (shape, stats) = (batch_norm_shape(d, norm), self.f32(stats));
        match d.kind {
            Kind::Rounded => self.batch_norm_backward_of([d, x].map(|buffer| self.bf16(buffer)), stats, norm, shape),
            Kind::Exact => self.batch_norm_backward_of([d, x].map(|buffer| self.f32(buffer)), stats, norm, shape),
        }
    }

    fn unit_rows(&mut self, y: Buffer, norms: Buffer, x: Buffer) -> Result<()> {
        let y = Outputs { f32: Some(self.f32(y)), bf16: None };
        l2norm::forward(self.gpu, y, self.f32(norms), self.f32(x), UNIT_EPS)
    }

    fn unit_rows_backward(&mut self, dx: Buffer, dy: Buffer, y: Buffer, norms: Buffer) -> Result<()> {
        let dx = match dx.kind {
            Kind::Rounded => Outputs { f32: None, bf16: Some(self.bf16(dx)) },
            Kind::Exact => Outputs { f32: Some(self.f32(dx)), bf16: None },
        };
        l2norm::backward(self.gpu, dx, self.f32(dy), self.f32(y), self.f32(norms), UNIT_EPS)
    }

    fn scale_rows(&mut self, y: Buffer, x: Buffer, s: Param) -> Result<()> {
        logit_scale::forward(self.gpu, self.f32(y), self.f32(x), self.params.f32(s))
    }

    fn scale_rows_backward(&mut self, dx: Buffer, dy: Buffer, y: Buffer, s: Param) -> Result<()> {
        let (to, scratch) = ((self.f32(dx), self.params.grad(s)), self.memory.scratch);
        logit_scale::backward(self.gpu, to, self.f32(dy), self.f32(y), self.params.f32(s), scratch)
    }

    fn add(&mut self, y: Buffer, x: Buffer) -> Result<()> {
        add::forward(self.gpu, self.bf16(y), self.bf16(x))
    }

    fn token_mean(&mut self, y: Buffer, x: Buffer, shape: means_of::Shape) -> Result<()> {
        token_mean::forward(self.gpu, self.bf16(y), self.bf16(x), shape)
    }

    fn token_mean_backward(&mut self, dx: Buffer, dy: Buffer, shape: means_of::Shape) -> Result<()> {
        token_mean::backward(self.gpu, self.bf16(dx), self.bf16(dy), shape)
    }

    fn unit_weights(&mut self, [y, rounded]: [Buffer; 2], norms: Buffer, at: Param) -> Result<()> {
        let to = Outputs { f32: Some(self.f32(y)), bf16: Some(self.bf16(rounded)) };
        l2norm::forward(self.gpu, to, self.f32(norms), self.read().f32(at), UNIT_EPS)
    }

    fn unit_weights_backward(&mut self, at: Param, dy: Buffer, y: Buffer, norms: Buffer) -> Result<()> {
        let to = Outputs { f32: Some(self.params.grad(at)), bf16: None };
        l2norm::backward(self.gpu, to, self.f32(dy), self.f32(y), self.f32(norms), UNIT_EPS)
    }

    fn product(&mut self, y: Buffer, x: Buffer, w: Buffer, shape: Shape) -> Result<()> {
        linear::forward_f32(self.gpu, self.f32(y), self.bf16(x), self.bf16(w), None, shape)
    }

    fn product_backward(&mut self, [dx, dw]: [Buffer; 2], dy: Buffer, [x, w]: [Buffer; 2], shape: Shape) -> Result<()> {
        let (dw, dy) = (self.f32(dw), self.bf16(dy));
        linear::backward_input(self.gpu, self.bf16(dx), dy, self.bf16(w), shape)?;
        self.gpu.zero(dw)?;
        linear::backward_weight(self.gpu, dw, None, dy, self.bf16(x), self.memory.scratch, shape)
    }

    fn round(&mut self, y: Buffer, x: Buffer) -> Result<()> {
        match y.kind {
            Kind::Rounded => convert::to_bf16(self.gpu, self.bf16(y), self.f32(x)),
            Kind::Exact => convert::to_f32(self.gpu, self.f32(y), self.bf16(x)),
        }
    }

    fn switch(&mut self, weights: Weights) -> Result<()> {
        self.weights = weights;
        Ok(())
    }

    fn freeze(&mut self, param: Param) -> Result<()> {
        self.gpu.zero(self.params.grad(param))
    }

    fn stage(&mut self, name: &'static str) -> Result<()> {
        self.stages.as_mut().map_or(Ok(()), |stages| stages(name))
    }

    fn is_finite(&mut self, place: Place) -> Result<bool> {
        match place {
            // Bytes.
            Place::Images => Ok(true),
            Place::Parameter(param) => self.find(self.params.f32(param)),
            Place::Gradient(param) => self.find(self.params.grad(param)),
            Place::Activation(buffer) => match self.memory.tensors[buffer.id] {
                Tensor::Rounded(_) => self.find(self.bf16(buffer)),
                Tensor::Exact(_) => self.find(self.f32(buffer)),
            },
        }
    }
}
