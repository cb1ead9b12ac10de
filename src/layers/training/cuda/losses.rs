//! Losses on CUDA.

use super::call::Call;
use crate::error::Result;
use crate::layers::training::{Buffer, Contrast, Distill, Losses, Numbers, Pairs, Queue, SoftLabels};
use crate::ops::contrastive::cuda as contrastive;
use crate::ops::cosine::cuda as cosine;
use crate::ops::distill::cuda as distill;
use crate::ops::pairs::cuda as pairs;
use crate::ops::patch_loss::cuda as patch_loss;
use crate::ops::queue::cuda as queue;
use crate::ops::reduce::cuda::Loss;
use crate::ops::soft_labels::cuda as soft_labels;
use crate::ops::{cosine as cosine_of, patch_loss as loss_of};

impl Losses for Call<'_, '_> {
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
}
