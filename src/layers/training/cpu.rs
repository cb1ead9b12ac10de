//! Training on the CPU, in f32.

mod call;

use super::{
    BatchNorm, Branch, Buffer, Contrast, Distill, Dropped, LayerNorm, Layers, Linear, Numbers, Pairs, PatchEmbed,
    Place, Places, QkNorm, Queue, SoftLabels, TextEmbed, Texts, UNIT_EPS, Weights,
};
use crate::error::Result;
use crate::ops::batchnorm::{self, Running};
use crate::ops::contrastive::{self, Batch};
use crate::ops::linear::{self, Shape};
use crate::ops::{
    activation, add, cosine, distill, drop_path, embed, interpolate, l2norm, layernorm, logit_scale, pairs,
    patch_embed, patch_loss, qk_norm, queue, reduce, relu, rows, self_attention, soft_labels, token_mean,
};
use crate::weights::{Param, pair_mut, several_mut};

pub use call::{Call, Memory};
use call::{pair_batch, queue_of};

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
        let [w, b, cls, pos] = [at.w, at.b, at.cls, at.pos].map(|param| param.of(self.read()));
        self.memory.write([tokens], |[y], memory| {
            let pos = at.resized.map_or(pos, |[resized, _]| memory.read(resized));
            patch_embed::forward(y, memory.read(patches), patch_embed::Weights { w, b, cls, pos }, shape);
        });
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
        let PatchEmbed { w, b, cls, pos, resized } = at;
        let [cls, pos, w, b] = several_mut(self.grads, [cls, pos, w, b]);
        let spare = spare.first(shape.n * shape.patches() * shape.dim);
        let mut back = |pos: &mut [f32], spare: &mut [f32], memory: &Memory| {
            let gradients = patch_embed::Gradients { w, b, cls, pos };
            patch_embed::backward(gradients, spare, memory.read(dtokens), memory.read(patches), shape);
        };
        match resized {
            None => self.memory.write([spare], |[spare], memory| back(pos, spare, memory)),
            Some([_, dpos]) => self.memory.write([spare, dpos], |[spare, dpos], memory| back(dpos, spare, memory)),
        }
        Ok(())
    }

    fn resize_positions(&mut self, [y, dy]: [Buffer; 2], pos: Param, shape: interpolate::Shape) -> Result<()> {
        let pos = pos.of(self.read());
        self.memory.write([y, dy], |[y, dy], _| {
            interpolate::forward(y, pos, shape);
            dy.fill(0.0);
        });
        Ok(())
    }

    fn resize_positions_backward(&mut self, pos: Param, dy: Buffer, shape: interpolate::Shape) -> Result<()> {
        interpolate::backward(pos.of_mut(self.grads), self.memory.read(dy), shape);
        Ok(())
    }

    fn embed_text(&mut self, y: Buffer, at: TextEmbed, texts: Texts) -> Result<()> {
        let [token, position] = [at.token, at.position].map(|param| param.of(self.read()));
        let (ids, d) = (&self.numbers[texts.ids.range()], y.len / texts.ids.len);
        self.memory.write([y], |[y], _| embed::text(y, ids, token, position, d));
        Ok(())
    }

    fn embed_text_backward(&mut self, dy: Buffer, at: TextEmbed, texts: Texts) -> Result<()> {
        let [ids, order, ends] = [texts.ids, texts.order, texts.ends].map(|run| &self.numbers[run.range()]);
        let (token, position) = pair_mut(self.grads, at.token, at.position);
        embed::text_backward(token, position, self.memory.read(dy), ids, (order, ends), dy.len / ids.len());
        Ok(())
    }

    fn pick(&mut self, y: Buffer, x: Buffer, places: Numbers) -> Result<()> {
        let places = &self.numbers[places.range()];
        self.memory.write([y], |[y], memory| embed::pick(y, memory.read(x), places));
        Ok(())
    }

    fn pick_backward(&mut self, dx: Buffer, dy: Buffer, places: Numbers) -> Result<()> {
        let places = &self.numbers[places.range()];
        self.memory.write([dx], |[dx], memory| embed::pick_backward(dx, memory.read(dy), places));
        Ok(())
    }

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
        linear::backward_weight(dw, db, self.memory.read(dy), self.memory.read(x), shape);
        Ok(())
    }

    fn input_gradient(&mut self, dx: Buffer, dy: Buffer, w: Param, shape: Shape) -> Result<()> {
        let w = w.of(self.read());
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
        let w = w.of(self.read());
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

    fn contrastive(&mut self, rows: Contrast) -> Result<()> {
        let (labels, queue, loss) =
            (&self.numbers[rows.labels.range()], queue_of(rows, self.statistics), &mut self.loss);
        self.memory.write([rows.lse, rows.weight], |[lse, weight], memory| {
            let batch = Batch { z: memory.read(rows.z), labels, queue, temperature: rows.temperature };
            *loss = contrastive::forward(lse, weight, batch);
        });
        Ok(())
    }

    fn contrastive_backward(&mut self, dz: Buffer, rows: Contrast) -> Result<()> {
        let (labels, queue) = (&self.numbers[rows.labels.range()], queue_of(rows, self.statistics));
        self.memory.write([dz], |[dz], memory| {
            let batch = Batch { z: memory.read(rows.z), labels, queue, temperature: rows.temperature };
            contrastive::backward(dz, memory.read(rows.lse), memory.read(rows.weight), batch);
        });
        Ok(())
    }

    fn enqueue(&mut self, at: Queue, keys: Buffer, labels: Numbers, start: Numbers) -> Result<()> {
        let (labels, start) = (&self.numbers[labels.range()], self.numbers[start.start]);
        let (to, kept) = pair_mut(self.statistics, at.keys, at.labels);
        queue::put(to, kept, self.memory.read(keys), labels, start as usize);
        Ok(())
    }

    fn take_rows(&mut self, y: Buffer, x: Buffer, at: Numbers, shape: rows::Shape) -> Result<()> {
        let at = &self.numbers[at.range()];
        self.memory.write([y], |[y], memory| rows::take(y, memory.read(x), at, shape));
        Ok(())
    }

    fn place_rows(&mut self, y: Buffer, x: Buffer, places: Places, shape: rows::Shape) -> Result<()> {
        let [fill, pos] = self.affine([places.fill, places.pos]);
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

    fn pairs(&mut self, all: &[Pairs], add: bool) -> Result<()> {
        let (numbers, loss) = (self.numbers, &mut self.loss);
        if !add {
            *loss = 0.0;
        }
        for &of in all {
            self.memory.write([of.lse, of.weight], |[lse, weight], memory| {
                *loss += f64::from(of.factor) * pairs::forward(lse, weight, pair_batch(of, memory, numbers));
            });
        }
        Ok(())
    }

    fn note_loss(&mut self) -> Result<()> {
        self.noted = self.loss;
        Ok(())
    }

    fn pairs_backward(&mut self, drows: Buffer, of: Pairs) -> Result<()> {
        let numbers = self.numbers;
        self.memory.write([drows], |[drows], memory| {
            let (lse, weight) = (memory.read(of.lse), memory.read(of.weight));
            pairs::backward_rows(drows, lse, weight, of.factor, pair_batch(of, memory, numbers));
        });
        Ok(())
    }

    fn pairs_both_backward(&mut self, drows: Buffer, there: Pairs, back: Pairs) -> Result<()> {
        let numbers = self.numbers;
        self.memory.write([drows], |[drows], memory| {
            let known = [there, back].map(|of| (memory.read(of.lse), memory.read(of.weight)));
            pairs::both::backward(drows, known, [there.factor, back.factor], pair_batch(there, memory, numbers));
        });
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

    fn soft_labels(&mut self, d: Buffer, losses: Buffer, logits: Buffer, of: SoftLabels) -> Result<()> {
        let [first, second, shares] = [of.both[0], of.both[1], of.shares].map(|run| &self.numbers[run.range()]);
        let labels = soft_labels::Labels { both: [first, second], shares };
        self.memory.write([d, losses], |[d, losses], memory| {
            soft_labels::forward(d, losses, memory.read(logits), labels, of.shape);
        });
        Ok(())
    }

    fn cosine(&mut self, drows: Buffer, rows: Buffer, keys: Buffer, shape: cosine::Shape) -> Result<()> {
        let loss = &mut self.loss;
        self.memory.write([drows], |[drows], memory| {
            *loss = cosine::forward(drows, memory.read(rows), memory.read(keys), shape);
        });
        Ok(())
    }

    fn distill(&mut self, ds: Buffer, Distill { student, teacher, centre, sharpness, shape }: Distill) -> Result<()> {
        let (loss, centre) = (&mut self.loss, centre.of_mut(self.statistics));
        let sharpness = self.scalars[sharpness];
        self.memory.write([ds], |[ds], memory| {
            let (student, teacher) = (memory.read(student), memory.read(teacher));
            *loss = distill::forward(ds, student, teacher, centre, sharpness, shape);
            distill::centre(centre, teacher);
        });
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
        self.memory.write([y], |[y], memory| linear::forward(y, memory.read(x), memory.read(w), None, shape));
        Ok(())
    }

    fn product_backward(&mut self, [dx, dw]: [Buffer; 2], dy: Buffer, [x, w]: [Buffer; 2], shape: Shape) -> Result<()> {
        self.memory.write([dx, dw], |[dx, dw], memory| {
            linear::backward_input(dx, memory.read(dy), memory.read(w), shape);
            dw.fill(0.0);
            linear::backward_weight(dw, None, memory.read(dy), memory.read(x), shape);
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
