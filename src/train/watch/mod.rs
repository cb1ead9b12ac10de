//! What a run scores as it goes, by the weights that it has then: k-NN on labelled photographs that it does not train
//! on, and the names of their classes where it learns texts.

mod names;

use std::path::PathBuf;

use super::cadence::{Cadence, SaveEvery};
use super::engine::Engine;
use super::job::{Config, WatchConfig};
use super::method::{Network, ZeroShot};
use super::scored::Scored;
use crate::bail;
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::eval::dataset::Dataset;
use crate::eval::features::{BATCH, Preparation, prepared};
use crate::eval::knn::{KnnConfig, classify};
use crate::eval::language::{Projections, Prompts, Space, memory};
use crate::eval::transform::Transform;
use crate::eval::{DataSource, TestSource, photographs};
use crate::say;
use crate::store;
use names::prompts;

/// Share of every class that is held out where no test images are given.
const HELD_OUT: f64 = 0.2;

/// Top-1 in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scores {
    /// How many neighbours voted.
    pub neighbours: usize,
    pub knn: f64,
    pub zero_shot: Option<f64>,
}

/// Photographs, and when they are looked at.
#[derive(Debug)]
pub(super) struct Watch {
    cadence: Cadence,
    train: Dataset,
    test: Dataset,
    transform: Transform,
    side: usize,
    width: usize,
    prompts: Option<Prompts>,
    scored: Scored,
}

impl Watch {
    /// Opens what `config` names, looks at every photograph once, and counts in `plan` what scoring takes on the host.
    ///
    /// # Errors
    /// Usage error for an interval in seconds, or names where nothing reads them; data error for photographs or names
    /// that cannot be used.
    pub fn open(
        config: &WatchConfig,
        Config { recipe, tokenizer, .. }: &Config,
        steps_per_epoch: u64,
        plan: &mut Plan,
    ) -> Result<Self> {
        if let SaveEvery::Seconds(seconds) = config.every {
            bail!(
                Usage,
                "--knn-every {seconds}s: expected steps or epochs, such as 500steps: a run that goes on is then scored where it \
                 was before"
            );
        }
        if recipe.finetune.is_some() {
            bail!(Usage, "--knn-every does not go with --method finetune, which --test scores; leave it out");
        }
        let source = |path: &PathBuf| DataSource { path: path.clone(), labels: None };
        let test = config.test.as_ref().map_or(TestSource::HeldOut(HELD_OUT), |path| TestSource::Images(source(path)));
        let (train, test) = photographs(&source(&config.train), &test, recipe.max_bad, recipe.seed)?;
        let mut scored = Scored::from([("knn-train".into(), train.told()), ("knn-test".into(), test.told())]);
        let (train, mut test) = (train.images, test.images);
        test.match_classes(&train)?;
        let network = recipe.network()?;
        let model = network.vit().config();
        let (side, width) = (model.image_size, model.width);
        let prompts = match (tokenizer, network.zero_shot()) {
            (Some(tokenizer), Some(_)) => prompts(config, train.class_names(), tokenizer)?,
            _ if config.class_names.is_some() || !config.templates.is_empty() => bail!(
                Usage,
                "{}: --method {} {}; leave it out",
                if config.class_names.is_some() { "--class-names" } else { "--template" },
                recipe.method.name(),
                if recipe.language.is_some() {
                    "with --projection mlp is not scored zero-shot"
                } else {
                    "reads no texts"
                }
            ),
            (Some(_), None) => {
                say!(
                    "note: with --projection mlp a run is not scored zero-shot while it trains; eval zero-shot does it"
                );
                None
            }
            _ => None,
        };
        scored.extend(prompts.iter().flat_map(Prompts::told));
        plan.record("k-NN", "features", 8 * (train.len() + test.len()) as u64 * width as u64);
        plan.record("k-NN", "photographs", 5 * BATCH as u64 * model.image_len() as u64);
        if let (Some(_), Some(of)) = (&prompts, network.zero_shot()) {
            plan.record("zero-shot", "text tower", memory(of.tower.config()).total_bytes());
        }
        let transform = Transform::new(side, None, None, None)?;
        let cadence = Cadence::new(config.every, steps_per_epoch);
        Ok(Self { cadence, train, test, transform, side, width, prompts, scored })
    }

    /// What it scores on.
    pub fn scored(&self) -> Scored {
        self.scored.clone()
    }

    /// Whether to score now that `step` updates are done.
    pub fn due(&mut self, step: u64) -> bool {
        self.cadence.due(step)
    }

    /// Scores what `engine` has trained so far; nothing once a signal came.
    ///
    /// # Errors
    /// Data error for a photograph that is no longer there, device errors; Diverged for features that are not finite.
    pub fn scores(&self, engine: &mut dyn Engine, network: &dyn Network) -> Result<Option<Scores>> {
        match self.measure(engine, network) {
            Err(Error::Interrupted(_)) => Ok(None),
            scores => scores.map(Some),
        }
    }

    fn measure(&self, engine: &mut dyn Engine, network: &dyn Network) -> Result<Scores> {
        let [train, test] = [&self.train, &self.test].map(|images| self.features(images, engine));
        let (train, test) = (train?, test?);
        let (labels, classes) = (self.train.labels(), self.train.classes());
        let knn = classify(&KnnConfig::default(), &train, labels, classes, &test, self.width)?;
        let zero_shot = match (&self.prompts, network.zero_shot()) {
            (Some(prompts), Some(ZeroShot { tower, projections })) => {
                let (params, projections) = (&engine.state()?.params, &Projections::Matrices(projections));
                Some(prompts.classify(&Space { tower, projections, params }, &test)?)
            }
            _ => None,
        };
        let top1 = |predicted: Vec<u32>| {
            let right = predicted.iter().zip(self.test.labels()).filter(|(a, b)| a == b).count();
            100.0 * right as f64 / self.test.len() as f64
        };
        let neighbours = KnnConfig::default().k.min(self.train.len());
        Ok(Scores { neighbours, knn: top1(knn), zero_shot: zero_shot.map(top1) })
    }

    /// `[N, D]`.
    fn features(&self, images: &Dataset, engine: &mut dyn Engine) -> Result<Vec<f32>> {
        let indices: Vec<usize> = (0..images.len()).collect();
        let mut features = Vec::with_capacity(images.len() * self.width);
        for indices in indices.chunks(BATCH) {
            store::check_interrupt("")?;
            let pictures = prepared(images, indices, Preparation::Test(self.transform), self.side)?;
            features.extend(engine.features(&pictures)?);
        }
        Ok(features)
    }
}

/// Says what was found after `step` updates.
pub(super) fn say_scores(step: u64, scores: Scores) {
    let Scores { neighbours, knn, zero_shot } = scores;
    let zero_shot = zero_shot.map_or(String::new(), |top1| format!(", zero-shot {top1:.2} %"));
    say!("after {step} steps: {neighbours}-NN {knn:.2} %{zero_shot}");
}
