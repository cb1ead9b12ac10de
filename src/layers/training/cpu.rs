//! Training on the CPU, in f32; linear layers multiply bf16 where a call asks for it.

mod call;
mod embeddings;
mod losses;
mod maps;

pub use call::{Call, Memory};

use super::{BatchNorm, Branch, Buffer, Dropped, LayerNorm, Layers, Linear, Place, QkNorm, UNIT_EPS, Weights};
use crate::error::Result;
use crate::ops::batchnorm::{self, Running};
use crate::ops::linear::{self, Shape, Weight};
use crate::ops::{
    activation, add, drop_path, l2norm, layernorm, logit_scale, qk_norm, reduce, relu, self_attention, token_mean,
};
use crate::weights::{Param, pair_mut};

impl Layers for Call<'_, '_> {
    fn drop_path(&mut self, y: Buffer, (residual, stride): (Buffer, usize), of: Dropped) -> Result<()> {
        let kept = &self.numbers[of.kept.range()];
        self.memory.write([y], |[y], memory| {
            drop_path::forward(y, (memory.read(residual), stride), kept, of.scale, of.shape);
        });
        Ok(())
    }

    fn drop_path_backward(&mut self, dbranch: Buffer, dy: Buffer, of: Dropped) -> Result<()> {
        let kept = &self.numbers[of.kept.range()];
        self.memory.write([dbranch], |[dbranch], memory| {
            drop_path::backward(dbranch, memory.read(dy), kept, of.scale, of.shape);
        });
        Ok(())
    }

    fn quick_gelu(&mut self, y: Buffer, x: Buffer) -> Result<()> {
        self.memory.write([y], |[y], memory| activation::quick_gelu_of(y, memory.read(x)));
        Ok(())
    }

    fn quick_gelu_backward(&mut self, d: Buffer, x: Buffer) -> Result<()> {
        self.memory.write([d], |[d], memory| activation::quick_gelu_backward(d, memory.read(x)));
        Ok(())
    }

    fn layer_norm(&mut self, y: Buffer, stats: Buffer, x: Buffer, at: LayerNorm) -> Result<()> {
        let [gamma, beta] = self.affine(at.affine);
        self.memory.write([y, stats], |[y, stats], memory| {
            layernorm::forward(y, stats, memory.read(x), gamma, beta, at.eps);
        });
        Ok(())
    }

    fn layer_norm_backward(
        &mut self,
        dx: Buffer,
        branch: Branch,
        dy: Buffer,
        (x, stats): (Buffer, Buffer),
        at: LayerNorm,
    ) -> Result<()> {
        let [gamma, _] = self.affine(at.affine);
        let (dgamma, dbeta) = pair_mut(self.grads, at.affine[0], at.affine[1]);
        self.memory.write([dx], |[dx], memory| {
            match branch {
                Branch::Kept => {}
                Branch::None => dx.fill(0.0),
                Branch::OneIn(period, class) => {
                    let d = gamma.len();
                    dx.fill(0.0);
                    for (rows, class) in dx.chunks_exact_mut(period * d).zip(memory.read(class).chunks_exact(d)) {
                        rows[..d].copy_from_slice(class);
                    }
                }
            }
            layernorm::backward(dx, dgamma, dbeta, memory.read(dy), memory.read(x), memory.read(stats), gamma);
        });
        Ok(())
    }

    fn linear(&mut self, y: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()> {
        let (w, b) = self.linear_weights(at);
        self.memory.write([y], |[y], memory| linear::forward(y, memory.read(x), w, b, shape));
        Ok(())
    }

    fn linear_residual(
        &mut self,
        y: Buffer,
        (residual, stride): (Buffer, usize),
        x: Buffer,
        at: Linear,
        shape: Shape,
    ) -> Result<()> {
        let (w, b) = self.linear_weights(at);
        self.memory.write([y], |[y], memory| {
            linear::forward_residual(y, (memory.read(residual), stride), memory.read(x), w, b, shape);
        });
        Ok(())
    }

    fn linear_gelu(&mut self, y: Buffer, hidden: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()> {
        let (w, b) = self.linear_weights(at);
        self.memory.write([y, hidden], |[y, hidden], memory| {
            linear::forward_gelu(y, hidden, memory.read(x), w, b, shape);
        });
        Ok(())
    }

    fn gelu(&mut self, y: Buffer, hidden: Buffer) -> Result<()> {
        self.memory.write([y], |[y], memory| activation::gelu_of(y, memory.read(hidden)));
        Ok(())
    }

    fn weight_gradient(&mut self, dy: Buffer, x: Buffer, at: Linear, shape: Shape) -> Result<()> {
        let (dw, db) = match at.b {
            Some(b) => {
                let (dw, db) = pair_mut(self.grads, at.w, b);
                (dw, Some(db))
            }
            None => (at.w.of_mut(self.grads), None),
        };
        linear::backward_weight(dw, db, self.memory.read(dy), self.memory.read(x), self.operands, shape);
        Ok(())
    }

    fn input_gradient(&mut self, dx: Buffer, dy: Buffer, w: Param, shape: Shape) -> Result<()> {
        let w = self.weight(w);
        self.memory.write([dx], |[dx], memory| linear::backward_input(dx, memory.read(dy), w, shape));
        Ok(())
    }

    fn input_gradient_gelu(
        &mut self,
        dhidden: Buffer,
        dy: Buffer,
        hidden: Buffer,
        w: Param,
        shape: Shape,
    ) -> Result<()> {
        let w = self.weight(w);
        self.memory.write([dhidden], |[dhidden], memory| {
            linear::backward_input_gelu(dhidden, memory.read(dy), w, memory.read(hidden), shape);
        });
        Ok(())
    }

    fn qk_norm(
        &mut self,
        y: Buffer,
        stats: Buffer,
        qkv: Buffer,
        at: QkNorm,
        shape: self_attention::Shape,
    ) -> Result<()> {
        let affine = at.affine.of(self.read());
        self.memory.write([y, stats], |[y, stats], memory| {
            qk_norm::forward(y, stats, memory.read(qkv), affine, at.eps, shape.heads());
        });
        Ok(())
    }

    fn qk_norm_backward(
        &mut self,
        d: Buffer,
        (qkv, stats): (Buffer, Buffer),
        at: QkNorm,
        shape: self_attention::Shape,
    ) -> Result<()> {
        let (affine, daffine) = (at.affine.of(self.read()), at.affine.of_mut(self.grads));
        self.memory.write([d], |[d], memory| {
            qk_norm::backward(d, daffine, memory.read(qkv), memory.read(stats), affine, shape.heads());
        });
        Ok(())
    }

    fn attention(&mut self, y: Buffer, lse: Buffer, qkv: Buffer, shape: self_attention::Shape) -> Result<()> {
        self.memory.write([y, lse], |[y, lse], memory| self_attention::forward(y, lse, memory.read(qkv), shape));
        Ok(())
    }

    fn attention_backward(
        &mut self,
        dqkv: Buffer,
        dy: Buffer,
        qkv: Buffer,
        (y, lse): (Buffer, Buffer),
        shape: self_attention::Shape,
    ) -> Result<()> {
        self.memory.write([dqkv], |[dqkv], memory| {
            let [dy, qkv, y, lse] = [dy, qkv, y, lse].map(|buffer| memory.read(buffer));
            self_attention::backward(dqkv, dy, qkv, y, lse, shape);
        });
        Ok(())
    }

    fn batch_norm(&mut self, y: Buffer, stats: Buffer, x: Buffer, norm: BatchNorm) -> Result<()> {
        let ([gamma, beta], running) = (self.norm_weights(norm), self.running(norm));
        let cols = norm.cols();
        let statistics = &mut *self.statistics;
        self.memory.write([y, stats], |[y, stats], memory| {
            let slot = y.len() / norm.slots;
            let slots = y.chunks_exact_mut(slot).zip(memory.read(x).chunks_exact(slot));
            for ((y, x), stats) in slots.zip(stats.chunks_exact_mut(2 * cols)) {
                let (mean, var) = pair_mut(statistics, running[0], running[1]);
                batchnorm::forward(y, stats, Running { mean, var }, x, &gamma, &beta);
            }
            if norm.relu {
                relu::forward_in_place(y);
            }
        });
        Ok(())
    }

    fn batch_norm_backward(
        &mut self,
        d: Buffer,
        spare: Buffer,
        (x, stats): (Buffer, Buffer),
        y: Buffer,
        norm: BatchNorm,
    ) -> Result<()> {
        let [gamma, _] = self.norm_weights(norm);
        let mut unused = vec![0.0; if norm.affine.is_none() { 2 * gamma.len() } else { 0 }];
        let (dgamma, dbeta) = match norm.affine {
            Some([gamma, beta]) => pair_mut(self.grads, gamma, beta),
            None => unused.split_at_mut(gamma.len()),
        };
        self.memory.write([d, spare], |[d, spare], memory| {
            if norm.relu {
                relu::backward_in_place(d, memory.read(y));
            }
            let slot = d.len() / norm.slots;
            let slots = spare.chunks_exact_mut(slot).zip(d.chunks_exact(slot)).zip(memory.read(x).chunks_exact(slot));
            for (((dx, dy), x), stats) in slots.zip(memory.read(stats).chunks_exact(2 * gamma.len())) {
                batchnorm::backward(dx, dgamma, dbeta, dy, x, stats, &gamma);
            }
            d.copy_from_slice(spare);
        });
        Ok(())
    }

    fn unit_rows(&mut self, y: Buffer, norms: Buffer, x: Buffer) -> Result<()> {
        self.memory.write([y, norms], |[y, norms], memory| l2norm::forward(y, norms, memory.read(x), UNIT_EPS));
        Ok(())
    }

    fn unit_rows_backward(&mut self, dx: Buffer, dy: Buffer, y: Buffer, norms: Buffer) -> Result<()> {
        self.memory.write([dx], |[dx], memory| {
            let [dy, y, norms] = [dy, y, norms].map(|buffer| memory.read(buffer));
            l2norm::backward(dx, dy, y, norms, UNIT_EPS);
        });
        Ok(())
    }

    fn scale_rows(&mut self, y: Buffer, x: Buffer, s: Param) -> Result<()> {
        let s = s.of(self.params)[0];
        self.memory.write([y], |[y], memory| logit_scale::forward(y, memory.read(x), s));
        Ok(())
    }

    fn scale_rows_backward(&mut self, dx: Buffer, dy: Buffer, y: Buffer, s: Param) -> Result<()> {
        let (ds, value) = (&mut s.of_mut(self.grads)[0], s.of(self.params)[0]);
        self.memory.write([dx], |[dx], memory| logit_scale::backward(dx, ds, memory.read(dy), memory.read(y), value));
        Ok(())
    }

    fn add(&mut self, y: Buffer, x: Buffer) -> Result<()> {
        self.memory.write([y], |[y], memory| add::forward(y, memory.read(x)));
        Ok(())
    }

    fn token_mean(&mut self, y: Buffer, x: Buffer, shape: token_mean::Shape) -> Result<()> {
        self.memory.write([y], |[y], memory| token_mean::forward(y, memory.read(x), shape));
        Ok(())
    }

    fn token_mean_backward(&mut self, dx: Buffer, dy: Buffer, shape: token_mean::Shape) -> Result<()> {
        self.memory.write([dx], |[dx], memory| token_mean::backward(dx, memory.read(dy), shape));
        Ok(())
    }

    fn unit_weights(&mut self, [y, rounded]: [Buffer; 2], norms: Buffer, at: Param) -> Result<()> {
        let w = at.of(self.read());
        self.memory.write([y, norms], |[y, norms], _| l2norm::forward(y, norms, w, UNIT_EPS));
        self.round(rounded, y)
    }

    fn unit_weights_backward(&mut self, at: Param, dy: Buffer, y: Buffer, norms: Buffer) -> Result<()> {
        let [dy, y, norms] = [dy, y, norms].map(|buffer| self.memory.read(buffer));
        l2norm::backward(at.of_mut(self.grads), dy, y, norms, UNIT_EPS);
        Ok(())
    }

    fn product(&mut self, y: Buffer, x: Buffer, w: Buffer, shape: Shape) -> Result<()> {
        let operands = self.operands;
        self.memory.write([y], |[y], memory| {
            let w = Weight { values: memory.read(w), operands };
            linear::forward(y, memory.read(x), w, None, shape);
        });
        Ok(())
    }

    fn product_backward(&mut self, [dx, dw]: [Buffer; 2], dy: Buffer, [x, w]: [Buffer; 2], shape: Shape) -> Result<()> {
        let operands = self.operands;
        self.memory.write([dx, dw], |[dx, dw], memory| {
            let w = Weight { values: memory.read(w), operands };
            linear::backward_input(dx, memory.read(dy), w, shape);
            dw.fill(0.0);
            linear::backward_weight(dw, None, memory.read(dy), memory.read(x), operands, shape);
        });
        Ok(())
    }

    fn round(&mut self, y: Buffer, x: Buffer) -> Result<()> {
        self.memory.write([y], |[y], memory| y.copy_from_slice(memory.read(x)));
        Ok(())
    }

    fn switch(&mut self, weights: Weights) -> Result<()> {
        self.weights = weights;
        Ok(())
    }

    fn freeze(&mut self, param: Param) -> Result<()> {
        param.of_mut(self.grads).fill(0.0);
        Ok(())
    }

    fn stage(&mut self, name: &'static str) -> Result<()> {
        self.stages.as_mut().map_or(Ok(()), |stages| stages(name))
    }

    fn is_finite(&mut self, place: Place) -> Result<bool> {
        Ok(reduce::all_finite(match place {
            Place::Images => self.images,
            Place::Parameter(param) => param.of(self.params),
            Place::Activation(buffer) => self.memory.read(buffer),
            Place::Gradient(param) => param.of(self.grads),
        }))
    }
}
