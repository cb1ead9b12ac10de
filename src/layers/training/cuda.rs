//! Training on CUDA: bf16 activations, everything queued and nothing waited for, so that an update can be recorded.

mod call;

use super::count::{batch_norm_shape, patch_product};
use super::{
    BatchNorm, Branch, Buffer, Contrast, Distill, Dropped, Kind, LayerNorm, Layers, Linear, Numbers, Pairs, PatchEmbed,
    Place, Places, QkNorm, Queue, SoftLabels, TextEmbed, Texts, UNIT_EPS, Weights,
};
use crate::error::Result;
use crate::ops::activation::cuda as activation;
use crate::ops::add::cuda as add;
use crate::ops::contrastive::cuda as contrastive;
use crate::ops::convert::cuda as convert;
use crate::ops::cosine::cuda as cosine;
use crate::ops::distill::cuda as distill;
use crate::ops::drop_path::cuda as drop_path;
use crate::ops::embed::cuda as embed;
use crate::ops::interpolate::{self as interpolate_of, cuda as interpolate};
use crate::ops::l2norm::cuda::{self as l2norm, Outputs};
use crate::ops::layernorm::cuda as layernorm;
use crate::ops::linear::{Shape, cuda as linear};
use crate::ops::logit_scale::cuda as logit_scale;
use crate::ops::pairs::cuda as pairs;
use crate::ops::patch_embed::cuda as patch_embed;
use crate::ops::patch_loss::cuda as patch_loss;
use crate::ops::qk_norm::cuda as qk_norm;
use crate::ops::queue::cuda as queue;
use crate::ops::reduce::cuda::Loss;
use crate::ops::rows::cuda as rows;
use crate::ops::self_attention::cuda as self_attention;
use crate::ops::soft_labels::cuda as soft_labels;
use crate::ops::token_mean::cuda as token_mean;
use crate::ops::{
    cosine as cosine_of, patch_embed as patches_of, patch_loss as loss_of, rows as rows_of,
    self_attention as attention_of, token_mean as means_of,
};
use crate::weights::Param;

pub use call::{Call, Memory};
use call::{Tensor, norm_shape};

impl Layers for Call<'_, '_> {
    fn unfold(&mut self, patches: Buffer, start: usize, shape: patches_of::Shape) -> Result<()> {
        let images = self.images.slice(start..start + patches.len);
        patch_embed::unfold(self.gpu, self.bf16(patches), images, self.scales, shape)
    }

    fn embed(
        &mut self,
        tokens: Buffer,
        patches: Buffer,
        spare: Buffer,
        at: PatchEmbed,
        shape: patches_of::Shape,
    ) -> Result<()> {
        let product = patch_product(shape);
        let embedded = self.bf16(spare.first(product.rows * product.outputs));
        linear::forward(self.gpu, embedded, self.bf16(patches), self.read().bf16(at.w), None, product)?;
        let resized = at.resized.map(|[positions, _]| positions);
        let weights = self.embedding(at, resized, |param| self.read().f32(param));
        patch_embed::tokens(self.gpu, self.bf16(tokens), embedded, weights, shape)
    }

    fn embed_backward(
        &mut self,
        dtokens: Buffer,
        patches: Buffer,
        spare: Buffer,
        at: PatchEmbed,
        shape: patches_of::Shape,
    ) -> Result<()> {
        let (product, scratch) = (patch_product(shape), self.memory.scratch);
        let dembedded = self.bf16(spare.first(product.rows * product.outputs));
        let resized = at.resized.map(|[_, gradient]| gradient);
        let gradients = self.embedding(at, resized, |param| self.params.grad(param));
        patch_embed::backward(self.gpu, gradients, dembedded, self.bf16(dtokens), scratch, shape)?;
        let dw = self.params.grad(at.w);
        linear::backward_weight(self.gpu, dw, None, dembedded, self.bf16(patches), scratch, product)
    }

    fn resize_positions(&mut self, [y, dy]: [Buffer; 2], pos: Param, shape: interpolate_of::Shape) -> Result<()> {
        self.gpu.zero(self.f32(dy))?;
        interpolate::forward(self.gpu, self.f32(y), self.read().f32(pos), shape)
    }

    fn resize_positions_backward(&mut self, pos: Param, dy: Buffer, shape: interpolate_of::Shape) -> Result<()> {
        interpolate::backward(self.gpu, self.params.grad(pos), self.f32(dy), shape)
    }

    fn embed_text(&mut self, y: Buffer, at: TextEmbed, texts: Texts) -> Result<()> {
        let [token, position] = [at.token, at.position].map(|param| self.params.bf16(param));
        let d = y.len / texts.ids.len;
        let tokens = position.len() / d;
        embed::text(self.gpu, self.bf16(y), self.run(texts.ids), token, position, (y.len / d / tokens, tokens, d))
    }

    fn embed_text_backward(&mut self, dy: Buffer, at: TextEmbed, texts: Texts) -> Result<()> {
        let (tables, d) = ((self.params.grad(at.token), self.params.grad(at.position)), dy.len / texts.ids.len);
        let [ids, order, ends] = [texts.ids, texts.order, texts.ends].map(|run| self.run(run));
        embed::text_backward(self.gpu, tables, self.bf16(dy), ids, (order, ends), d)
    }

    fn pick(&mut self, y: Buffer, x: Buffer, places: Numbers) -> Result<()> {
        embed::pick(self.gpu, self.bf16(y), self.bf16(x), self.run(places))
    }

    fn pick_backward(&mut self, dx: Buffer, dy: Buffer, places: Numbers) -> Result<()> {
        embed::pick_backward(self.gpu, self.bf16(dx), self.bf16(dy), self.run(places))
    }

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
        layernorm::forward(self.gpu, y, stats, x, gamma, beta, at.eps, shape)
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
        layernorm::backward(self.gpu, dx, branch, dgamma, dbeta, dy, x, stats, gamma, scratch, shape)
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
        qk_norm::backward(self.gpu, d, daffine, qkv, self.f32(stats), affine, scratch, shape.heads())
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
        let [dqkv, dy, qkv, y] = [dqkv, dy, qkv, y].map(|buffer| self.bf16(buffer));
        self_attention::backward(self.gpu, dqkv, dy, qkv, y, self.f32(lse), self.memory.scratch, shape)
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

    fn contrastive(&mut self, rows: Contrast) -> Result<()> {
        contrastive::forward(self.gpu, self.loss, self.f32(rows.lse), self.f32(rows.weight), self.rows(rows))
    }

    fn contrastive_backward(&mut self, dz: Buffer, rows: Contrast) -> Result<()> {
        let (lse, weight) = (self.f32(rows.lse), self.f32(rows.weight));
        contrastive::backward(self.gpu, self.f32(dz), lse, weight, self.rows(rows))
    }

    fn enqueue(&mut self, at: Queue, keys: Buffer, labels: Numbers, start: Numbers) -> Result<()> {
        let [to, kept] = self.ring(at);
        queue::put(self.gpu, (to, kept), self.f32(keys), self.run(labels), self.run(start))
    }

    fn take_rows(&mut self, y: Buffer, x: Buffer, at: Numbers, shape: rows_of::Shape) -> Result<()> {
        rows::take(self.gpu, self.bf16(y), self.bf16(x), self.run(at), shape)
    }

    fn place_rows(&mut self, y: Buffer, x: Buffer, places: Places, shape: rows_of::Shape) -> Result<()> {
        let constants = [places.fill, places.pos].map(|param| self.read().f32(param));
        let places = rows::Places { rows: self.run(places.rows), at: places.at.map(|at| self.run(at)) };
        rows::place(self.gpu, self.bf16(y), self.bf16(x), constants, places, shape)
    }

    fn place_rows_backward(&mut self, dx: Buffer, dy: Buffer, places: Places, shape: rows_of::Shape) -> Result<()> {
        let (dfill, scratch) = (self.params.grad(places.fill), self.memory.scratch);
        rows::fill_backward(self.gpu, dfill, self.bf16(dy), self.run(places.rows), scratch, shape)?;
        rows::take(self.gpu, self.bf16(dx), self.bf16(dy), self.run(places.back), shape.backward())
    }

    fn patch_loss(
        &mut self,
        d: Buffer,
        losses: Buffer,
        predictions: Buffer,
        rows: Numbers,
        start: usize,
        shape: loss_of::Shape,
    ) -> Result<()> {
        let images = self.images.slice(start..start + shape.n * shape.image_len());
        let (d, losses, predictions) = (self.bf16(d), self.f32(losses), self.bf16(predictions));
        patch_loss::loss(self.gpu, d, losses, predictions, images, self.run(rows), shape)
    }

    fn mean_loss(&mut self, losses: Buffer) -> Result<()> {
        patch_loss::mean(self.gpu, self.loss, self.f32(losses))
    }

    fn pairs(&mut self, all: &[Pairs], add: bool) -> Result<()> {
        for (i, &of) in all.iter().enumerate() {
            let (lse, weight, loss) =
                (self.f32(of.lse), self.f32(of.weight), Loss::new(self.loss, of.factor, add || i > 0));
            pairs::forward(self.gpu, loss, lse, weight, self.pair_batch(of))?;
        }
        Ok(())
    }

    fn note_loss(&mut self) -> Result<()> {
        self.gpu.copy(self.noted, self.loss)
    }

    fn pairs_backward(&mut self, drows: Buffer, of: Pairs) -> Result<()> {
        let (drows, lse, weight) = (self.f32(drows), self.f32(of.lse), self.f32(of.weight));
        pairs::backward_rows(self.gpu, drows, lse, weight, of.factor, self.pair_batch(of))
    }

    fn pairs_both_backward(&mut self, drows: Buffer, there: Pairs, back: Pairs) -> Result<()> {
        let known = [there, back].map(|of| (self.f32(of.lse), self.f32(of.weight)));
        let (batch, factors) = (self.pair_batch(there), [there.factor, back.factor]);
        pairs::backward_both(self.gpu, self.f32(drows), known, factors, batch)
    }

    fn token_mean(&mut self, y: Buffer, x: Buffer, shape: means_of::Shape) -> Result<()> {
        token_mean::forward(self.gpu, self.bf16(y), self.bf16(x), shape)
    }

    fn token_mean_backward(&mut self, dx: Buffer, dy: Buffer, shape: means_of::Shape) -> Result<()> {
        token_mean::backward(self.gpu, self.bf16(dx), self.bf16(dy), shape)
    }

    fn soft_labels(&mut self, d: Buffer, losses: Buffer, logits: Buffer, of: SoftLabels) -> Result<()> {
        let labels = soft_labels::Labels { both: of.both.map(|run| self.run(run)), shares: self.run(of.shares) };
        soft_labels::forward(self.gpu, self.bf16(d), self.f32(losses), self.f32(logits), labels, of.shape)
    }

    fn cosine(&mut self, drows: Buffer, rows: Buffer, keys: Buffer, shape: cosine_of::Shape) -> Result<()> {
        let (drows, sides) = (self.f32(drows), [rows, keys].map(|buffer| self.f32(buffer)));
        cosine::forward(self.gpu, self.loss, drows, sides, self.memory.scratch, shape)
    }

    fn distill(&mut self, ds: Buffer, of: Distill) -> Result<()> {
        let (centre, teacher) = (self.statistics.slice(of.centre.range()), self.f32(of.teacher));
        let batch = distill::Batch {
            shape: of.shape,
            student: self.f32(of.student),
            teacher,
            centre,
            sharpness: self.scalars.slice(of.sharpness..of.sharpness + 1),
            scratch: self.memory.scratch,
        };
        distill::forward(self.gpu, self.loss, self.bf16(ds), batch)?;
        distill::centre(self.gpu, centre, teacher)
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
