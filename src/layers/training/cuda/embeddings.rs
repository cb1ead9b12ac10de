//! How tokens come about, on CUDA.

use super::call::Call;
use crate::error::Result;
use crate::layers::training::count::patch_product;
use crate::layers::training::{Buffer, Embeddings, Numbers, PatchEmbed, Places, TextEmbed, Texts};
use crate::ops::embed::cuda as embed;
use crate::ops::interpolate::{self as interpolate_of, cuda as interpolate};
use crate::ops::linear::cuda as linear;
use crate::ops::patch_embed::cuda as patch_embed;
use crate::ops::rows::cuda as rows;
use crate::ops::{patch_embed as patches_of, rows as rows_of};
use crate::weights::Param;

impl Embeddings for Call<'_, '_> {
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
}
