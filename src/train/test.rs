//! What a classifier scores on labelled photographs while it is trained.

use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::cadence::{Cadence, SaveEvery};
use super::engine::Engine;
use super::job::{Config, TestSet};
use super::loader::{Batch, Row, Section};
use super::scored::Scored;
use crate::bail;
use crate::error::{Error, Result};
use crate::eval::dataset::{Dataset, Split};
use crate::eval::screen::screen;
use crate::eval::transform::Transform;
use crate::image::Filter;
use crate::layers::training::Weights;
use crate::ops::augment::AugmentParams;
use crate::say;
use crate::store;

/// Guesses among which a label counts as found in the second score.
const TOP: usize = 5;

/// Percent of the photographs whose class is the likeliest, and is among the five likeliest, by the weights and by
/// their moving average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    pub top1: f64,
    pub top5: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_top1: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_top5: Option<f64>,
}

impl Scores {
    /// By name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let own = [("top1", Some(self.top1)), ("top5", Some(self.top5))];
        own.into_iter()
            .chain([("ema_top1", self.ema_top1), ("ema_top5", self.ema_top5)])
            .filter_map(|(n, v)| Some((n, v?)))
    }
}

/// Opened photographs, their class numbers, and when they are due.
pub(super) struct Tester {
    set: Dataset,
    classes: Vec<u32>,
    transform: Transform,
    cadence: Option<Cadence>,
    /// Images of a step.
    batch: usize,
    sections: Vec<Section>,
    averaged: bool,
    /// The photographs in words.
    told: String,
}

impl Tester {
    /// Opens the photographs of `config`, if there are any, and looks at each once. As MAE's code they are resized by a
    /// bicubic filter, the short side to 256 for 224 pixels, and cut to the middle.
    ///
    /// # Errors
    /// Usage error for a method that does not classify; data error for photographs that are damaged, or a class that
    /// the training data does not have.
    pub fn open(config: &Config, steps_per_epoch: u64) -> Result<Option<Self>> {
        let (recipe, Some(TestSet { images, every })) = (&config.recipe, &config.test) else { return Ok(None) };
        let (Some(settings), Some(classes)) = (&recipe.finetune, recipe.classes()) else {
            bail!(Usage, "--test goes with --method finetune alone; `stablerep probe` scores other encoders")
        };
        if let Some(SaveEvery::Seconds(seconds)) = every {
            bail!(
                Usage,
                "--test-every {seconds}s: expected steps or epochs, such as 500steps: a run that goes on is then scored \
                 where it was before"
            );
        }
        let set = Dataset::open(&images.path, images.labels.as_deref(), Split::Test)?;
        set.notes().iter().for_each(|note| say!("note: {note}"));
        let Some(screened) = screen(vec![set], 0)?.pop() else { bail!(Data, "--test: no images") };
        let (told, set) = (screened.told(), screened.images);
        let ours = Transform::new(recipe.model.image_size, None, None, None)?;
        Ok(Some(Self {
            classes: class_numbers(&set, classes)?,
            transform: Transform { filter: Filter::Bicubic, ..ours },
            cadence: every.map(|every| Cadence::new(every, steps_per_epoch)),
            batch: recipe.images_per_step(),
            sections: recipe.loader(None).sections(),
            averaged: settings.ema.is_some(),
            set,
            told,
        }))
    }

    /// What it scores on.
    pub fn scored(&self) -> Scored {
        Scored::from([("test".into(), self.told.clone())])
    }

    /// Whether to classify them now that `step` updates are done.
    pub fn due(&mut self, step: u64) -> bool {
        self.cadence.as_mut().is_some_and(|cadence| cadence.due(step))
    }

    /// Classifies all of them; nothing once a signal came.
    ///
    /// # Errors
    /// Diverged if a logit is not finite; what the device refuses.
    pub fn score(&self, engine: &mut dyn Engine) -> Result<Option<Scores>> {
        let Some([top1, top5]) = self.shares(engine, Weights::Online)? else { return Ok(None) };
        let (mut scores, mut said) =
            (Scores { top1, top5, ema_top1: None, ema_top5: None }, format!("top-1 {top1:.2} %"));
        if self.averaged {
            let Some([top1, top5]) = self.shares(engine, Weights::Momentum)? else { return Ok(None) };
            (scores.ema_top1, scores.ema_top5) = (Some(top1), Some(top5));
            said += &format!(", of the averaged weights {top1:.2} %");
        }
        say!("{} test images after {} steps: {said}", self.set.len(), engine.step_count());
        Ok(Some(scores))
    }

    fn shares(&self, engine: &mut dyn Engine, weights: Weights) -> Result<Option<[f64; 2]>> {
        let mut found = [0usize; 2];
        for start in (0..self.set.len()).step_by(self.batch) {
            if store::interrupted() {
                return Ok(None);
            }
            let count = self.batch.min(self.set.len() - start);
            // A step's images are as many every time: the first ones again.
            let rows: Vec<Row> =
                (0..self.batch).into_par_iter().map(|i| self.row(start + i % count)).collect::<Result<_>>()?;
            let batch = Batch { rows, sections: self.sections.clone(), texts: Vec::new() };
            let Some(logits) = engine.predict(&batch, weights)? else {
                bail!(Failed, "--test: the network does not classify")
            };
            let each = logits.len() / self.batch;
            for (logits, &label) in logits.chunks_exact(each).zip(&self.classes[start..start + count]) {
                let place = place(logits, label as usize).ok_or_else(|| {
                    Error::Diverged(format!("the logits of test image {start} or one behind it are not finite"))
                })?;
                found[0] += usize::from(place == 0);
                found[1] += usize::from(place < TOP);
            }
        }
        Ok(Some(found.map(|found| 100.0 * found as f64 / self.set.len() as f64)))
    }

    fn row(&self, index: usize) -> Result<Row> {
        let image = self.transform.apply(&self.set.image(index)?)?;
        let params = AugmentParams::whole(image.width, image.height);
        Ok(Row { image: Arc::new(image), params, label: 0, key: [0; 3], mixed: None, map: None })
    }
}

/// How many classes are likelier than `label`: of equal ones those of lower numbers. `None` if a logit is not finite.
fn place(logits: &[f32], label: usize) -> Option<usize> {
    let own = logits[label];
    let before = |&(class, &logit): &(usize, &f32)| logit > own || (logit == own && class < label);
    logits.iter().all(|logit| logit.is_finite()).then(|| logits.iter().enumerate().filter(before).count())
}

/// The class number of every image: what its class is called where that is a number, else the place of the name among
/// all, which must then be as many as the training data has.
fn class_numbers(set: &Dataset, classes: usize) -> Result<Vec<u32>> {
    let names = set.class_names();
    let numbers: Option<Vec<u32>> = names.iter().map(|name| name.parse().ok()).collect();
    let numbers = match numbers {
        Some(numbers) => numbers,
        None if names.len() == classes => (0..classes as u32).collect(),
        None => bail!(
            Data,
            "{}: has {} classes by name, the training data {classes}: names are numbered in their order, so both must \
             have the same classes; or call the folders by their numbers",
            set.name(),
            names.len()
        ),
    };
    if let Some(number) = numbers.iter().find(|&&number| number as usize >= classes) {
        bail!(
            Data,
            "{}: holds class {number}, but training has classes 0 to {}; give --classes",
            set.name(),
            classes - 1
        );
    }
    Ok(set.labels().iter().map(|&label| numbers[label as usize]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_go_to_the_lower_class() {
        let logits = [0.5, 2.0, 0.5, -1.0];
        assert_eq!([0, 1, 2, 3].map(|label| place(&logits, label)), [Some(1), Some(0), Some(2), Some(3)]);
        assert_eq!(place(&[0.0, f32::NAN], 0), None);
    }
}
