//! What is found of every head, and which is chosen.

use serde::{Deserialize, Deserializer, Serialize};

use super::config::{LinearConfig, Select};
use crate::bail;
use crate::error;

/// Top-1 of one head after one epoch, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// 1-based.
    pub epoch: usize,
    pub test: f64,
    /// On the held-out training images, when there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val: Option<f64>,
}

/// One head: its learning rate and how it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    pub base_lr: f64,
    /// base_lr · batch / 256.
    pub lr: f64,
    /// Mean cross-entropy over the last epoch; none where the head diverged. Such a head is wrong about everything and
    /// never chosen.
    pub train_loss: Option<f32>,
    pub evaluations: Vec<Evaluation>,
}

/// A chosen head at a chosen epoch; accuracies in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub base_lr: f64,
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// All heads of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearReport {
    pub batch_norm: bool,
    pub heads: Vec<HeadReport>,
    pub selected_on: Select,
    /// The best head at the best evaluation, by `selected_on`.
    pub best: Choice,
    /// The best head after the last epoch, by `selected_on`.
    pub last: Choice,
}

/// How the heads of one kind do while they train, head by head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub batch_norm: bool,
    /// Mean cross-entropy over the steps of the epoch, so far.
    #[serde(deserialize_with = "or_nan")]
    pub losses: Vec<f64>,
    pub evaluations: Vec<Vec<Evaluation>>,
}

/// What JSON has no number for was none.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let losses = Vec::<Option<f64>>::deserialize(from)?;
    Ok(losses.into_iter().map(|loss| loss.unwrap_or(f64::NAN)).collect())
}

impl Scores {
    /// What is told of them, after the last epoch.
    ///
    /// # Errors
    /// `Diverged` when all did.
    pub fn report(self, config: &LinearConfig, batch: usize) -> error::Result<LinearReport> {
        let heads: Vec<HeadReport> = config
            .base_lrs
            .iter()
            .zip(self.losses.iter().zip(self.evaluations))
            .map(|(&base_lr, (&loss, evaluations))| HeadReport {
                base_lr,
                lr: base_lr * batch as f64 / 256.0,
                train_loss: (!diverged(loss)).then_some(loss as f32),
                evaluations,
            })
            .collect();
        let choose = |last_only: bool| {
            let candidates = heads.iter().filter(|head| head.train_loss.is_some()).flat_map(|head| {
                let skip = if last_only { head.evaluations.len() - 1 } else { 0 };
                head.evaluations[skip..].iter().map(|&evaluation| Choice { base_lr: head.base_lr, evaluation })
            });
            // The first of equals: the smaller learning rate, then the earlier epoch.
            candidates
                .reduce(|best, next| if next.score(config.select) > best.score(config.select) { next } else { best })
        };
        let (Some(best), Some(last)) = (choose(false), choose(true)) else {
            bail!(Diverged, "every head of the linear probe diverged; use smaller --lrs");
        };
        Ok(LinearReport { batch_norm: self.batch_norm, best, last, heads, selected_on: config.select })
    }
}

impl Choice {
    fn score(&self, select: Select) -> f64 {
        match select {
            Select::Test => self.evaluation.test,
            Select::Val => self.evaluation.val.unwrap_or(f64::NEG_INFINITY),
        }
    }
}

/// Whether a mean loss is none any more: not finite, or so large that f32 cannot hold its square.
pub fn diverged(loss: f64) -> bool {
    !loss.is_finite() || loss > 1e18
}
