//! Losses on the CPU.

use super::call::{Call, pair_batch, queue_of};
use crate::error::Result;
use crate::layers::training::{Buffer, Contrast, Distill, Losses, Numbers, Pairs, Queue, SoftLabels};
use crate::ops::contrastive::{self, Batch};
use crate::ops::{cosine, distill, pairs, patch_loss, queue, soft_labels};
use crate::weights::pair_mut;

impl Losses for Call<'_, '_> {
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

    fn mean_loss(&mut self, losses: Buffer) -> Result<()> {
        self.loss = patch_loss::mean(self.memory.read(losses));
        Ok(())
    }
}
