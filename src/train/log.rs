//! Where the numbers of every step go: `metrics.jsonl`, TensorBoard, and the progress line.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

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
    /// The smallest value that the loss may take for the labels of the step, where it is one over images by labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_floor: Option<f64>,
    pub lr: f64,
    /// Of all gradients together, before the update.
    pub grad_norm: f64,
    /// From the end of the step before to the end of this one, loading included, scoring not.
    pub images_per_second: f64,
    #[serde(flatten)]
    pub scored: Scored,
}

/// What was scored behind a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scored {
    /// Top-1 in percent of what is looked at on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<f64>,
    /// What a classifier scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<test::Scores>,
}

/// What is scored behind a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub test: Option<test::Scores>,
    pub watch: Option<watch::Scores>,
}

impl From<Found> for Scored {
    fn from(Found { test, watch }: Found) -> Self {
        Self { knn: watch.map(|scores| scores.knn), zero_shot: watch.and_then(|scores| scores.zero_shot), test }
    }
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
    /// Floors of the losses of steps that are under way.
    floors: VecDeque<(u64, f64)>,
}

impl Log {
    /// Goes on before step `step` of a `schedule` whose epochs have so many: what was written of later steps (by a run
    /// that was killed after its checkpoint) is cut off.
    pub fn open(
        folder: &Path,
        step: u64,
        (schedule, steps_per_epoch): (Schedule, u64),
        recipe: &Recipe,
    ) -> Result<Self> {
        let lines = JsonLines::resume(folder.join(METRICS), step)?;
        let mut board = TensorBoard::open(folder, step)?;
        if step == 0 {
            let settings = serde_json::to_value(recipe).map_err(|e| Error::Failed(e.to_string()))?;
            board.settings(&settings, &metrics(recipe))?;
        }
        let images = recipe.images_per_step();
        let progress = Progress::bar(schedule.steps, "train", ("image", images as u64));
        progress.resume_at(step);
        let (last, loss, floors) = (Instant::now(), None, VecDeque::new());
        Ok(Self { lines, board, progress, schedule, steps_per_epoch, images, last, loss, floors })
    }

    /// Remembers the floor of the loss of `step`, which begins.
    pub fn begins(&mut self, step: u64, floor: Option<f64>) {
        self.floors.extend(floor.map(|floor| (step, floor)));
    }

    /// Records a step that has ended, and what `score` finds behind it, in whose time none is counted.
    ///
    /// # Errors
    /// Those of `score`; if nothing can be written.
    pub fn step(&mut self, outcome: Outcome, score: impl FnOnce() -> Result<Found>) -> Result<()> {
        let images_per_second = self.images as f64 / self.last.elapsed().as_secs_f64();
        let (Outcome { step, loss, image_loss, grad_norm }, found) = (outcome, score()?);
        while self.floors.front().is_some_and(|(earlier, _)| *earlier < step) {
            self.floors.pop_front();
        }
        let entry = Entry {
            step,
            epoch: step / self.steps_per_epoch,
            loss,
            image_loss,
            text_loss: image_loss.map(|part| loss - part),
            loss_floor: self.floors.front().filter(|(at, _)| *at == step).map(|(_, floor)| *floor),
            lr: self.schedule.lr(step),
            grad_norm,
            images_per_second,
            scored: found.into(),
        };
        self.lines.write(&entry)?;
        let all = [
            ("train/loss", Some(loss)),
            ("train/image_loss", entry.image_loss),
            ("train/text_loss", entry.text_loss),
            ("train/loss_floor", entry.loss_floor),
            ("train/lr", Some(entry.lr)),
            ("train/grad_norm", Some(grad_norm)),
            ("train/images_per_second", Some(images_per_second)),
        ];
        for (tag, value) in all {
            if let Some(value) = value {
                self.board.scalar(tag, value as f32, step)?;
            }
        }
        self.scored(step, found)?;
        self.last = Instant::now();
        self.loss = Some(loss);
        self.progress.note(format!("loss {loss:.4}  lr {:.2e}", entry.lr));
        self.progress.advance(1);
        Ok(())
    }

    /// Puts into TensorBoard what was found behind `step`.
    fn scored(&mut self, step: u64, found: Found) -> Result<()> {
        let Scored { knn, zero_shot, test } = found.into();
        if let Some(scores) = found.watch {
            watch::say_scores(step + 1, scores);
        }
        let own = [("eval/knn", knn), ("eval/zero_shot", zero_shot)];
        let own = own.into_iter().filter_map(|(tag, value)| value.map(|value| (tag.to_owned(), value)));
        let test = test.iter().flat_map(test::Scores::named).map(|(tag, value)| (format!("test/{tag}"), value));
        for (tag, value) in own.chain(test) {
            self.board.scalar(&tag, value as f32, step)?;
        }
        Ok(())
    }

    /// What was written of the step before this one, if anything was.
    pub fn last_line(folder: &Path) -> Option<Value> {
        let text = fs::read_to_string(folder.join(METRICS)).ok()?;
        serde_json::from_str(text.lines().last()?).ok()
    }

    /// Adds what was found behind the last step that was recorded, `step`: a signal had come before.
    ///
    /// # Errors
    /// If nothing can be written.
    pub fn make_up(&mut self, step: u64, found: Found) -> Result<()> {
        self.lines.amend_last(&Scored::from(found))?;
        self.scored(step, found)
    }

    /// Makes the lines durable, before the checkpoint that counts on them.
    pub fn sync(&self) -> Result<()> {
        self.lines.sync()
    }

    /// Ends the progress line and says that the run has ended; returns the loss of the last step that was recorded.
    ///
    /// # Errors
    /// If nothing can be written.
    pub fn finish(mut self) -> Result<Option<f64>> {
        self.progress.finish();
        self.board.ended(self.schedule.steps)?;
        Ok(self.loss)
    }
}

/// The curves whose last values runs are compared by.
fn metrics(recipe: &Recipe) -> Vec<&'static str> {
    let scores: &[&str] = match (&recipe.finetune, recipe.method.method().reads_texts()) {
        (Some(_), _) => &["test/top1", "test/top5"],
        (None, false) => &["eval/knn"],
        (None, true) => &["eval/knn", "eval/zero_shot"],
    };
    [&["train/loss"], scores].concat()
}
