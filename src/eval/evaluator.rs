//! What scores a frozen encoder: the trait that every protocol implements, and what it is given and gives.

use std::path::Path;

use serde_json::Value;

use super::dataset::Dataset;
use super::encoder::Encoder;
use super::transform::Transform;
use crate::device::Plan;
use crate::error::{Error, Result};

/// Encoder, photographs and their features.
pub struct Task<'a> {
    pub encoder: &'a Encoder,
    pub train: &'a Dataset,
    /// `[train, D]` under the test transform; empty when no evaluator reads them.
    pub train_features: &'a [f32],
    pub test: &'a Dataset,
    /// `[test, D]`.
    pub test_features: &'a [f32],
    pub transform: Transform,
    pub seed: u64,
    /// Folder for what is kept on the way.
    pub output: Option<&'a Path>,
}

impl Task<'_> {
    /// D.
    pub fn width(&self) -> usize {
        self.encoder.vit().config().width
    }
}

/// Numbers of images and classes, the width D of a feature, and where it is computed.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub train: usize,
    pub test: usize,
    pub classes: usize,
    pub width: usize,
    /// Whether encoder and heads are on a GPU, with a plan of their own.
    pub on_gpu: bool,
}

/// A protocol with its settings.
pub trait Evaluator {
    /// What its results are called in `report.json`.
    fn key(&self) -> &'static str;

    /// # Errors
    /// `Usage` naming the setting that cannot be run.
    fn check(&self) -> Result<()>;

    /// Whether it reads the features of all training images under the test transform.
    fn reads_train_features(&self) -> bool;

    /// Counts what it holds beside features and encoder.
    fn plan(&self, plan: &mut Plan, sizes: Sizes);

    /// # Errors
    /// `Usage` for settings that the images do not allow, `Data` or `Io` naming an image, `Diverged` when features or
    /// losses are not finite, `Interrupted` on a signal.
    fn run(&self, task: &Task<'_>) -> Result<Score>;
}

/// What an evaluator found.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub key: &'static str,
    pub found: Value,
    /// The same for people.
    pub rows: Vec<Row>,
    /// How the figures were chosen, in lines; may be empty.
    pub footnote: &'static str,
}

impl Score {
    /// `found` as it stands in the report.
    ///
    /// # Errors
    /// `Failed` for what is no JSON.
    pub fn new(
        evaluator: &dyn Evaluator,
        found: impl serde::Serialize,
        rows: Vec<Row>,
        footnote: &'static str,
    ) -> Result<Self> {
        let key = evaluator.key();
        // By way of text: a `Value` made of an f32 of 0.07 is 0.07000000029802322.
        let text = serde_json::to_string(&found);
        let found = text.and_then(|text| serde_json::from_str(&text));
        let found = found.map_err(|e| Error::Failed(format!("report: {key}: {e}")))?;
        Ok(Self { key, found, rows, footnote })
    }
}

/// One row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub probe: String,
    /// Top-1 in percent; of several heads, of the chosen one at the chosen epoch.
    pub top1: f64,
    pub base_lr: Option<f64>,
    pub epoch: Option<usize>,
    /// Top-1 of the head chosen after the last epoch.
    pub last: Option<f64>,
}

/// Counts a buffer of these sizes, as many as can be counted.
pub(super) fn take(plan: &mut Plan, group: &'static str, name: &str, sizes: &[usize]) {
    plan.f32(group, name, sizes.iter().fold(1, |len: usize, size| len.saturating_mul(*size)));
}
