//! How tokens come about, on the CPU.

use super::call::{Call, Memory};
use crate::error::Result;
use crate::layers::training::{Buffer, Embeddings, Numbers, PatchEmbed, Places, TextEmbed, Texts};
use crate::ops::{embed, interpolate, patch_embed, rows};
use crate::weights::{Param, pair_mut, several_mut};

impl Embeddings for Call<'_, '_> {
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
}
