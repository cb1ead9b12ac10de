//! Where the numbers of every step go: `metrics.jsonl`, TensorBoard, and the progress line.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::job::METRICS;
use super::recipe::Recipe;
use super::schedule::Schedule;
use super::state::Outcome;
use super::{test, watch};
use crate::error::{Error, Result};
use crate::metrics::{JsonLines, Progress, TensorBoard};

/// The numbers of one step; losses in full precision, so that runs can be compared digit by digit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Counted from 0.
    pub step: u64,
    pub epoch: u64,
    pub loss: f64,
    /// What of it is of images among each other, and against texts, where it is a sum of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_loss: Option<f64>,
    pub lr: f64,
    /// Of all gradients together, before the update.
    pub grad_norm: f64,
    /// From the end of the step before to the end of this one, loading included, scoring not.
    pub images_per_second: f64,
    /// Top-1 in percent of what is scored behind this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<f64>,
    /// What a classifier scored behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<test::Scores>,
}

/// What is scored behind a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub test: Option<test::Scores>,
    pub watch: Option<watch::Scores>,
}

/// Writes entries to every place.
pub struct Log {
    lines: JsonLines,
    board: TensorBoard,
    progress: Progress,
    schedule: Schedule,
    steps_per_epoch: u64,
    /// Images of a step.
    images: usize,
    /// When the step before ended.
    last: Instant,
    loss: Option<f64>,
}

impl Log {
    /// Goes on before step `step` of a `schedule` whose epochs have so many: what was written of later steps (by a run that was killed after its
    /// checkpoint) is cut off.
    pub fn open(
        folder: &Path,
        step: u64,
        (schedule, steps_per_epoch): (Schedule, u64),
        recipe: &Recipe,
    ) -> Result<Self> {
        let lines = JsonLines::resume(folder.join(METRICS), step)?;
        let mut board = TensorBoard::open(folder, step)?;
        if step == 0 {
            board.settings(&serde_json::to_value(recipe).map_err(|e| Error::Failed(e.to_string()))?)?;
        }
        let images = recipe.images_per_step();
        let progress = Progress::bar(schedule.steps, "train", ("image", images as u64));
        progress.resume_at(step);
        Ok(Self { lines, board, progress, schedule, steps_per_epoch, images, last: Instant::now(), loss: None })
    }

    /// Records a step that has ended, and what `score` finds behind it, in whose time none is counted.
    ///
    /// # Errors
    /// Those of `score`; if nothing can be written.
    pub fn step(&mut self, outcome: Outcome, score: impl FnOnce() -> Result<Found>) -> Result<()> {
        let images_per_second = self.images as f64 / self.last.elapsed().as_secs_f64();
        let (Outcome { step, loss, image_loss, grad_norm }, found) = (outcome, score()?);
        let entry = Entry {
            step,
            epoch: step / self.steps_per_epoch,
            loss,
            image_loss,
            text_loss: image_loss.map(|part| loss - part),
            lr: self.schedule.lr(step),
            grad_norm,
            images_per_second,
            knn: found.watch.map(|scores| scores.knn),
            zero_shot: found.watch.and_then(|scores| scores.zero_shot),
            test: found.test,
        };
        self.lines.write(&entry)?;
        let all = [
            ("train/loss", Some(loss)),
            ("train/image_loss", entry.image_loss),
            ("train/text_loss", entry.text_loss),
            ("train/lr", Some(entry.lr)),
            ("train/grad_norm", Some(grad_norm)),
            ("train/images_per_second", Some(images_per_second)),
            ("eval/knn", entry.knn),
            ("eval/zero_shot", entry.zero_shot),
        ];
        for (tag, value) in all {
            if let Some(value) = value {
                self.board.scalar(tag, value as f32, step)?;
            }
        }
        for (tag, value) in entry.test.iter().flat_map(test::Scores::named) {
            self.board.scalar(&format!("test/{tag}"), value as f32, step)?;
        }
        if let Some(scores) = found.watch {
            watch::say_scores(step + 1, scores);
        }
        self.last = Instant::now();
        self.loss = Some(loss);
        self.progress.note(format!("loss {loss:.4}  lr {:.2e}", entry.lr));
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
