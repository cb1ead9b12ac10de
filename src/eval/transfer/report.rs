//! What was found of transfer: `report.json` and a table for people.

use serde::{Deserialize, Serialize};

use super::protocol::{Found, lambdas};
use crate::eval::dataset::published::{LAYOUTS, Metric};
use crate::eval::report::ModelReport;
use crate::eval::rows::table;
use crate::eval::transform::Transform;

/// Data sets that one of the two averages leaves out.
const CIFAR: [&str; 2] = ["cifar10", "cifar100"];

/// Everything that was found and under which settings, without times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransferReport {
    pub model: ModelReport,
    pub transform: Transform,
    pub seed: u64,
    pub max_iterations: usize,
    pub data: Vec<DataScore>,
    /// The mean of the eleven scores, where all are there.
    pub mean_of_11: Option<f64>,
    /// The same without CIFAR-10 and CIFAR-100.
    pub mean_of_9: Option<f64>,
}

/// One data set. Scores are in percent, to six places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataScore {
    pub name: String,
    pub metric: Metric,
    /// Numbers of images.
    pub train: usize,
    pub val: usize,
    pub test: usize,
    /// Classes, or things that images may show.
    pub classes: usize,
    /// Damaged images that were left out.
    pub bad: usize,
    /// The chosen strength of the penalty, to six digits, and the score on val at every one.
    pub lambda: f64,
    pub validation: Vec<f64>,
    pub score: f64,
    /// Of the last fit.
    pub iterations: usize,
    /// Fits that were stopped before their minimum.
    pub stopped: usize,
}

impl DataScore {
    /// What was found of the data set `name`, whose parts have so many `images`.
    pub fn new(name: &str, metric: Metric, images: [usize; 3], classes: usize, bad: usize, found: &Found) -> Self {
        let [train, val, test] = images;
        Self {
            name: name.to_owned(),
            metric,
            train,
            val,
            test,
            classes,
            bad,
            lambda: format!("{:.5e}", lambdas()[found.chosen]).parse().unwrap_or(f64::NAN),
            validation: found.validation.iter().copied().map(six_places).collect(),
            score: six_places(found.test),
            iterations: found.iterations,
            stopped: found.stopped,
        }
    }
}

/// As many as are read back from JSON as they were written.
fn six_places(percent: f64) -> f64 {
    (percent * 1e6).round() / 1e6
}

/// The means over eleven and nine data sets, where all of them are in `data`.
pub fn means(data: &[DataScore]) -> [Option<f64>; 2] {
    let mean = |leave_out: &[&str]| {
        let names = LAYOUTS.iter().map(|layout| layout.name).filter(|name| !leave_out.contains(name));
        let score = |name| data.iter().find(|data| data.name == name).map(|data| data.score);
        let scores: Vec<f64> = names.map(score).collect::<Option<_>>()?;
        Some(six_places(scores.iter().sum::<f64>() / scores.len() as f64))
    };
    [mean(&[]), mean(&CIFAR)]
}

impl TransferReport {
    /// The table, in Markdown or in aligned columns, under the encoder that was scored.
    pub fn text(&self, markdown: bool) -> String {
        let columns = ["data", "score", "%", "lambda", "train", "val", "test", "classes"];
        let mut rows = vec![columns.map(str::to_owned).to_vec()];
        let metric = |metric| match metric {
            Metric::Top1 => "top-1",
            Metric::MeanPerClass => "mean per class",
            Metric::MeanAp => "11-point mAP",
        };
        for data in &self.data {
            let counts = [data.train, data.val, data.test, data.classes].map(|count| count.to_string());
            let scores = [metric(data.metric).into(), format!("{:.2}", data.score), data.lambda.to_string()];
            rows.push([std::slice::from_ref(&data.name), &scores, &counts].concat());
        }
        for (mean, of) in [(self.mean_of_11, "mean of 11"), (self.mean_of_9, "mean of 9, without CIFAR")] {
            if let Some(mean) = mean {
                let mut row = vec![of.to_owned(), String::new(), format!("{mean:.2}")];
                row.resize(columns.len(), String::new());
                rows.push(row);
            }
        }
        let mut text = format!("encoder  {}, {}\n", self.model.source, self.model.description);
        text += &table(&rows, 2, markdown);
        let stopped: usize = self.data.iter().map(|data| data.stopped).sum();
        if stopped > 0 {
            text += &format!(
                "{stopped} fits were stopped after {} iterations, before their minimum.\n",
                self.max_iterations
            );
        }
        text
    }
}
