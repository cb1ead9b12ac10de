//! What a probe is asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::encoder::{Encoder, ModelSource, Placement};
use super::evaluator::Evaluator;
use super::knn::KnnConfig;
use super::linear_probe::LinearConfig;
use super::place::Place;
use super::transform::{Fit, Transform};
use crate::bail;
use crate::error::Result;

/// Which photographs, and how they are labelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSource {
    /// IDX images, a folder of classes, or webdataset shards ([`super::dataset::Dataset::open`]).
    pub path: PathBuf,
    /// IDX labels, when they are not beside the images.
    pub labels: Option<PathBuf>,
}

/// What the probe is tested on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TestSource {
    /// Photographs of their own.
    Images(DataSource),
    /// This share of every class of the training images, which then trains nothing
    /// ([`super::dataset::Dataset::divide`]).
    HeldOut(f64),
}

/// What to measure, and how photographs reach the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// `None` here and below is [`Transform::new`]'s default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fit: Option<Fit>,
    /// Short side before the crop.
    pub resize: Option<usize>,
    pub linear: Option<LinearConfig>,
    pub knn: Option<KnnConfig>,
    pub seed: u64,
}

/// A run of `stablerep probe`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    pub model: ModelSource,
    pub placement: Placement,
    pub train: DataSource,
    pub test: TestSource,
    /// Damaged photographs, of training and test together, that are left out; one more is an error.
    pub max_bad: usize,
    pub settings: ProbeSettings,
    /// Where `report.json` goes.
    pub output: Option<PathBuf>,
}

impl ProbeConfig {
    /// Where it reports. Neighbours alone are an evaluation of their own.
    pub(super) fn place(&self) -> Result<Place> {
        let evaluation = if self.settings.linear.is_some() { "linear" } else { "knn" };
        let mut read = vec![self.train.path.as_path()];
        if let TestSource::Images(source) = &self.test {
            read.push(&source.path);
        }
        Place::of(evaluation, self.output.as_deref(), self.placement.features.as_deref(), &read)
    }
}

impl ProbeSettings {
    /// What is to be measured, in the order of the report.
    pub fn evaluators(&self) -> Vec<&dyn Evaluator> {
        let Self { linear, knn, .. } = self;
        let all = [linear.as_ref().map(|it| it as &dyn Evaluator), knn.as_ref().map(|it| it as _)];
        all.into_iter().flatten().collect()
    }

    /// # Errors
    /// `Usage` naming the setting that cannot be run.
    pub fn check(&self) -> Result<()> {
        let evaluators = self.evaluators();
        if evaluators.is_empty() {
            bail!(Usage, "nothing to measure: leave --no-linear out or add --knn 20");
        }
        evaluators.iter().try_for_each(|evaluator| evaluator.check())
    }

    /// What a photograph goes through on its way to `encoder`.
    pub(super) fn transform(&self, encoder: &Encoder) -> Result<Transform> {
        Transform::new(encoder.vit().config().image_size, self.fit, self.resize, encoder.preprocessing())
    }
}
