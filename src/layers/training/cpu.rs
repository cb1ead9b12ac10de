//! Training on the CPU, in f32.

use super::{
    Affine, BatchNorm, Branch, Buffer, Contrast, LayerNorm, Layers, Layout, Linear, Numbers, PatchEmbed, Place, Places,
    Stages, UNIT_EPS,
};
use crate::device::Plan;
use crate::error::Result;
use crate::ops::batchnorm::{self, Running};
use crate::ops::contrastive::{self, Batch};
use crate::ops::linear::{self, Shape};
use crate::ops::{activation, l2norm, layernorm, patch_embed, patch_loss, reduce, relu, rows, self_attention};
use crate::weights::{Param, pair_mut, several_mut};

/// The tensors of a layout.
#[derive(Debug, Default)]
pub struct Memory(Vec<Vec<f32>>);

impl Memory {
    pub fn take(plan: &mut Plan, layout: &Layout) -> Self {
        Self(layout.tensors().map(|(group, name, len, _)| plan.f32(group, name, len)).collect())
    }

    pub fn read(&self, x: Buffer) -> &[f32] {
        &self.0[x.id][x.range()]
    }

    /// To write.
    pub fn of_mut(&mut self, x: Buffer) -> &mut [f32] {
        &mut self.0[x.id][x.range()]
    }

    /// Lends some values to `op`, which may read all others.
    fn write<const N: usize>(&mut self, to: [Buffer; N], op: impl FnOnce([&mut [f32]; N], &Self)) {
        let mut lent = to.map(|buffer| std::mem::take(&mut self.0[buffer.id]));
        let mut places = to.iter();
        let slices = lent.each_mut().map(|values| &mut values[places.next().map_or(0..0, |buffer| buffer.range())]);
        op(slices, self);
        to.iter().zip(lent).for_each(|(buffer, values)| self.0[buffer.id] = values);
    }
}

/// A call. What a walk does not touch may be left as [`Call::new`] makes it.
pub struct Call<'a, 's> {
    pub memory: &'a mut Memory,
    pub params: &'a [f32],
    /// Of the same layout as `params`.
    pub grads: &'a mut [f32],
    /// Running statistics of the batch norms.
    pub statistics: &'a mut [f32],
    /// Normalised images `[N, H, W, 3]`.
    pub images: &'a [f32],
    /// What [`Numbers`] are runs of.
    pub numbers: &'a [u32],
    /// What [`Layers::contrastive`] gave.
    pub loss: f64,
    pub stages: Stages<'a, 's>,
}

impl<'a> Call<'a, '_> {
    pub fn new(memory: &'a mut Memory, params: &'a [f32]) -> Self {
        Self { memory, params, grads: &mut [], statistics: &mut [], images: &[], numbers: &[], loss: 0.0, stages: None }
    }

    fn weights(&self, at: Affine) -> [&'a [f32]; 2] {
        at.map(|param| param.of(self.params))
    }

    fn linear_weights(&self, at: Linear) -> (&'a [f32], Option<&'a [f32]>) {
        (at.w.of(self.params), at.b.map(|b| b.of(self.params)))
    }
}

impl Layers for Call<'_, '_> {
    fn unfold(&mut self, patches: Buffer, start: usize, shape: patch_embed::Shape) -> Result<()> {
        let images = &self.images[start..start + patches.len];
        self.memory.write([patches], |[y], _| patch_embed::unfold(y, images, shape));
        Ok(())
    }

    fn embed(
        &mut self,
        tokens: Buffer,
        patches: Buffer,
        _: Buffer,
        at: PatchEmbed,
        shape: patch_embed::Shape,
    ) -> Result<()> {
        let [w, b, cls, pos] = [at.w, at.b, at.cls, at.pos].map(|param| param.of(self.params));
        let weights = patch_embed::Weights { w, b, cls, pos };
        self.memory.write([tokens], |[y], memory| patch_embed::forward(y, memory.read(patches), weights, shape));
        Ok(())
    }

    fn embed_backward(
        &mut self,
        dtokens: Buffer,
        patches: Buffer,
        spare: Buffer,
        at: PatchEmbed,
        shape: patch_embed::Shape,
    ) -> Result<()> {
        let PatchEmbed { w, b, cls, pos } = at;
        let [cls, pos, w, b] = several_mut(self.grads, [cls, pos, w, b]);
        let gradients = patch_embed::Gradients { w, b, cls, pos };
        let spare = spare.first(shape.n * shape.patches() * shape.dim);
        self.memory.write([spare], |[spare], memory| {
            patch_embed::backward(gradients, spare, memory.read(dtokens), memory.read(patches), shape);
        });
        Ok(())
    }

    fn layer_norm(&mut self, y: Buffer, stats: Buffer, x: Buffer, at: LayerNorm) -> Result<()> {
        let [gamma, beta] = self.weights(at.affine);
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
        let [gamma, _] = self.weights(at.affine);
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
        linear::backward_weight(dw, db, self.memory.read(dy), self.memory.read(x), shape);
        Ok(())
    }

    fn input_gradient(&mut self, dx: Buffer, dy: Buffer, w: Param, shape: Shape) -> Result<()> {
        let w = w.of(self.params);
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
        let w = w.of(self.params);
        self.memory.write([dhidden], |[dhidden], memory| {
            linear::backward_input_gelu(dhidden, memory.read(dy), w, memory.read(hidden), shape);
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

    fn batch_norm_relu(&mut self, y: Buffer, stats: Buffer, x: Buffer, norm: BatchNorm) -> Result<()> {
        let [gamma, beta] = self.weights(norm.affine);
        let cols = gamma.len();
        let statistics = &mut *self.statistics;
        self.memory.write([y, stats], |[y, stats], memory| {
            let slot = y.len() / norm.slots;
            let slots = y.chunks_exact_mut(slot).zip(memory.read(x).chunks_exact(slot));
            for ((y, x), stats) in slots.zip(stats.chunks_exact_mut(2 * cols)) {
                let (mean, var) = pair_mut(statistics, norm.running[0], norm.running[1]);
                batchnorm::forward(y, stats, Running { mean, var }, x, gamma, beta);
            }
            relu::forward_in_place(y);
        });
        Ok(())
    }

    fn batch_norm_relu_backward(
        &mut self,
        d: Buffer,
        spare: Buffer,
        (x, stats): (Buffer, Buffer),
        y: Buffer,
        norm: BatchNorm,
    ) -> Result<()> {
        let [gamma, _] = self.weights(norm.affine);
        let (dgamma, dbeta) = pair_mut(self.grads, norm.affine[0], norm.affine[1]);
        self.memory.write([d, spare], |[d, spare], memory| {
            relu::backward_in_place(d, memory.read(y));
            let slot = d.len() / norm.slots;
            let slots = spare.chunks_exact_mut(slot).zip(d.chunks_exact(slot)).zip(memory.read(x).chunks_exact(slot));
            for (((dx, dy), x), stats) in slots.zip(memory.read(stats).chunks_exact(2 * gamma.len())) {
                batchnorm::backward(dx, dgamma, dbeta, dy, x, stats, gamma);
            }
        });
        self.memory.0.swap(d.id, spare.id);
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

    fn contrastive(&mut self, Contrast { z, labels, lse, weight, temperature }: Contrast) -> Result<()> {
        let (labels, loss) = (&self.numbers[labels.range()], &mut self.loss);
        self.memory.write([lse, weight], |[lse, weight], memory| {
            *loss = contrastive::forward(lse, weight, Batch { z: memory.read(z), labels, temperature });
        });
        Ok(())
    }

    fn contrastive_backward(&mut self, dz: Buffer, rows: Contrast) -> Result<()> {
        let Contrast { z, labels, lse, weight, temperature } = rows;
        let labels = &self.numbers[labels.range()];
        self.memory.write([dz], |[dz], memory| {
            let batch = Batch { z: memory.read(z), labels, temperature };
            contrastive::backward(dz, memory.read(lse), memory.read(weight), batch);
        });
        Ok(())
    }

    fn take_rows(&mut self, y: Buffer, x: Buffer, at: Numbers, shape: rows::Shape) -> Result<()> {
        let at = &self.numbers[at.range()];
        self.memory.write([y], |[y], memory| rows::take(y, memory.read(x), at, shape));
        Ok(())
    }

    fn place_rows(&mut self, y: Buffer, x: Buffer, places: Places, shape: rows::Shape) -> Result<()> {
        let [fill, pos] = self.weights([places.fill, places.pos]);
        let rows = &self.numbers[places.rows.range()];
        let places = rows::Places { rows, at: places.at.map(|at| &self.numbers[at.range()]) };
        self.memory.write([y], |[y], memory| rows::place(y, memory.read(x), fill, pos, places, shape));
        Ok(())
    }

    fn place_rows_backward(&mut self, dx: Buffer, dy: Buffer, places: Places, shape: rows::Shape) -> Result<()> {
        let [rows, back] = [places.rows, places.back].map(|run| &self.numbers[run.range()]);
        rows::fill_backward(places.fill.of_mut(self.grads), self.memory.read(dy), rows, shape);
        self.memory.write([dx], |[dx], memory| rows::take(dx, memory.read(dy), back, shape.backward()));
        Ok(())
    }

    fn patch_loss(
        &mut self,
        d: Buffer,
        losses: Buffer,
        predictions: Buffer,
        rows: Numbers,
        start: usize,
        shape: patch_loss::Shape,
    ) -> Result<()> {
        let images = &self.images[start..start + shape.n * shape.image_len()];
        let rows = &self.numbers[rows.range()];
        self.memory.write([d, losses], |[d, losses], memory| {
            patch_loss::loss(d, losses, memory.read(predictions), images, rows, shape);
        });
        Ok(())
    }

    fn mean_loss(&mut self, losses: Buffer) -> Result<()> {
        self.loss = patch_loss::mean(self.memory.read(losses));
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
