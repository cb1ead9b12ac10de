//! Where the numbers of every step go: `metrics.jsonl`, TensorBoard, and the progress line.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::job::METRICS;
use super::recipe::Recipe;
use super::test::Scores;
use crate::error::{Error, Result};
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
    /// What was scored behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Scores>,
}

/// Writes entries to every place.
pub struct Log {
    lines: JsonLines,
    board: TensorBoard,
    progress: Progress,
    /// Images of a step.
    images: usize,
    /// When the step before ended.
    last: Instant,
    loss: Option<f64>,
}

impl Log {
    /// Goes on before step `step` of `steps`: what was written of later steps (by a run that was killed after its
    /// checkpoint) is cut off.
    pub fn open(folder: &Path, step: u64, steps: u64, recipe: &Recipe) -> Result<Self> {
        let lines = JsonLines::resume(folder.join(METRICS), step)?;
        let mut board = TensorBoard::open(folder, step)?;
        if step == 0 {
            board.settings(&serde_json::to_value(recipe).map_err(|e| Error::Failed(e.to_string()))?)?;
        }
        let images = recipe.images_per_step();
        let progress = Progress::bar(steps, "train", ("image", images as u64));
        progress.resume_at(step);
        Ok(Self { lines, board, progress, images, last: Instant::now(), loss: None })
    }

    /// Records one step; fills in its rate.
    pub fn step(&mut self, entry: Entry) -> Result<()> {
        let images_per_second = self.images as f64 / self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let entry = Entry { images_per_second, ..entry };
        self.lines.write(&entry)?;
        let Entry { step, loss, lr, grad_norm, .. } = entry;
        for (tag, value) in
            [("loss", loss), ("lr", lr), ("grad_norm", grad_norm), ("images_per_second", images_per_second)]
        {
            self.board.scalar(&format!("train/{tag}"), value as f32, step)?;
        }
        for (tag, value) in entry.test.iter().flat_map(Scores::named) {
            self.board.scalar(&format!("test/{tag}"), value as f32, step)?;
        }
        self.loss = Some(loss);
        self.progress.note(format!("loss {loss:.4}  lr {lr:.2e}"));
        self.progress.advance(1);
        Ok(())
    }

    /// Makes the lines durable, before the checkpoint that counts on them.
    pub fn sync(&self) -> Result<()> {
        self.lines.sync()
    }

    /// Ends the progress line; returns the loss of the last step that was recorded.
    pub fn finish(self) -> Option<f64> {
        self.progress.finish();
        self.loss
    }
}
