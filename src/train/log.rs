//! Where the numbers of every step go: `metrics.jsonl`, TensorBoard, and the progress line.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::METRICS;
use crate::error::Result;
use crate::metrics::{JsonLines, Progress, TensorBoard};

/// The numbers of one step; losses in full precision, so that runs can be compared digit by digit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Counted from 0.
    pub step: u64,
    pub epoch: u64,
    pub loss: f64,
    pub lr: f64,
    /// Of all gradients together, before the update.
    pub grad_norm: f64,
    /// From the end of the step before to the end of this one, loading included.
    pub images_per_second: f64,
}

/// Writes entries to every place.
pub struct Log {
    lines: JsonLines,
    board: TensorBoard,
    progress: Progress,
    last: Instant,
}

impl Log {
    /// Goes on before step `step` of `steps`: what was written of later steps (by a run that was killed after its checkpoint) is cut off.
    pub fn open(folder: &Path, step: u64, steps: u64) -> Result<Self> {
        let lines = JsonLines::resume(folder.join(METRICS), step)?;
        let board = if step == 0 { TensorBoard::create(folder)? } else { TensorBoard::resume(folder, step)? };
        let progress = Progress::bar(steps, "train");
        progress.resume_at(step);
        Ok(Self { lines, board, progress, last: Instant::now() })
    }

    /// Records one step of `images` images; fills in their rate.
    pub fn step(&mut self, entry: Entry, images: usize) -> Result<()> {
        let images_per_second = images as f64 / self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let entry = Entry { images_per_second, ..entry };
        self.lines.write(&entry)?;
        let Entry { step, loss, lr, grad_norm, .. } = entry;
        for (tag, value) in
            [("loss", loss), ("lr", lr), ("grad_norm", grad_norm), ("images_per_second", images_per_second)]
        {
            self.board.scalar(&format!("train/{tag}"), value as f32, step)?;
        }
        self.progress.note(format!("loss {loss:.4}  lr {lr:.2e}  {images_per_second:.0} images/s"));
        self.progress.advance(1);
        Ok(())
    }

    /// Makes the lines durable, before the checkpoint that counts on them.
    pub fn sync(&self) -> Result<()> {
        self.lines.sync()
    }

    pub fn finish(self) {
        self.progress.finish();
    }
}
