//! Weighted k-nearest-neighbour classification on frozen features (Wu et al. 2018, as in DINO): the k most similar
//! training images by cosine vote for their class with weight exp(similarity / temperature).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evaluator::{Evaluator, Row, Score, Sizes, Task, take};
use super::features::check_finite;
use super::stop::check_stop;
use crate::bail;
use crate::device::Plan;
use crate::error::Result;
use crate::ops::gemm::{self, Threads};

/// Test images of one task.
const QUERIES: usize = 64;

/// Training images compared at once, so that memory does not grow with their number.
const BLOCK: usize = 8192;

/// Blocks are whole multiples of this: the product sums every column of a block in the same order, so that two copies
/// of a picture are equally similar wherever they stand.
const COLUMNS: usize = 64;

/// Settings. [`Default`] is DINO's: k 20, temperature 0.07.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnnConfig {
    pub k: usize,
    pub temperature: f32,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 20, temperature: 0.07 }
    }
}

impl Evaluator for KnnConfig {
    fn key(&self) -> &'static str {
        "knn"
    }

    fn check(&self) -> Result<()> {
        if self.k == 0 {
            bail!(Usage, "--knn 0: expected at least one neighbour");
        }
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            bail!(Usage, "--knn-temperature {}: expected a positive number", self.temperature);
        }
        Ok(())
    }

    fn reads_train_features(&self) -> bool {
        true
    }

    fn plan(&self, plan: &mut Plan, Sizes { train, test, width, .. }: Sizes) {
        take(plan, "k-NN", "train features of length 1", &[train, width]);
        take(plan, "k-NN", "test features of length 1", &[test, width]);
        // A similarity and a place, each padded to eight bytes.
        let lists = QUERIES.saturating_mul(rayon::current_num_threads());
        take(plan, "k-NN", "neighbours", &[lists, self.k.min(train), 4]);
    }

    fn run(&self, task: &Task<'_>) -> Result<Score> {
        let (labels, classes) = (task.train.labels(), task.train.classes());
        let predicted = classify(self, task.train_features, labels, classes, task.test_features, task.width())?;
        let correct = predicted.iter().zip(task.test.labels()).filter(|(a, b)| a == b).count();
        let report = KnnReport {
            k: self.k.min(task.train.len()),
            temperature: self.temperature,
            test: 100.0 * correct as f64 / task.test.len() as f64,
        };
        let probe = format!("{}-NN, temperature {}", report.k, report.temperature);
        let row = Row { probe, top1: report.test, ..Row::default() };
        Score::new(self, report, vec![row], "")
    }
}

/// k-NN accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnnReport {
    /// Neighbours used: the smaller of the setting and the number of training images.
    pub k: usize,
    pub temperature: f32,
    /// Top-1 on the test images, percent.
    pub test: f64,
}

/// The class of each row of `queries[N, D]` by its neighbours among `features[T, D]` with `labels[T]`; all T when there
/// are fewer than k. Of equally similar neighbours the earlier counts first; of equal votes the lower class wins.
///
/// # Errors
/// `Usage` for settings that cannot be run, `Diverged` for features that are not finite, `Interrupted` on a signal.
///
/// # Panics
/// When lengths disagree or a label is not below `classes`.
pub fn classify(
    config: &KnnConfig,
    features: &[f32],
    labels: &[u32],
    classes: usize,
    queries: &[f32],
    width: usize,
) -> Result<Vec<u32>> {
    config.check()?;
    assert_eq!(features.len(), labels.len() * width);
    let vote = |nearest: &[(f32, usize)]| vote(nearest, labels, classes, config.temperature);
    nearest(features, queries, width, config.k, vote)
}

/// What `each` makes of the `k` rows of `features[T, D]` with the largest cosines to each row of `queries[N, D]`, a
/// cosine and a row each, in falling order; all T when there are fewer. Of equally similar rows the earlier comes
/// first. Rows shorter than 1e-12 count as if of that length.
///
/// # Errors
/// `Diverged` for features that are not finite, `Interrupted` on a signal.
pub fn nearest<V: Send>(
    features: &[f32],
    queries: &[f32],
    width: usize,
    k: usize,
    each: impl Fn(&[(f32, usize)]) -> V + Sync,
) -> Result<Vec<V>> {
    check_finite(features, width, |row| format!("training image {row}"))?;
    check_finite(queries, width, |row| format!("test image {row}"))?;
    let all = features.len() / width;
    let block = all.next_multiple_of(COLUMNS).min(BLOCK);
    let mut train = unit_rows(features, width);
    train.resize(all.next_multiple_of(block) * width, 0.0);
    let queries = unit_rows(queries, width);
    let k = k.min(all);
    let found: Vec<Vec<V>> = queries
        .par_chunks(QUERIES * width)
        .map(|queries| {
            let rows = queries.len() / width;
            let mut nearest = vec![Vec::with_capacity(k + 1); rows];
            let mut similarities = vec![0.0; rows * block];
            for (train, first) in train.chunks_exact(block * width).zip((0..all).step_by(block)) {
                check_stop()?;
                gemm::nt(&mut similarities, queries, train, (rows, block, width), false, Threads::One);
                for (nearest, row) in nearest.iter_mut().zip(similarities.chunks_exact(block)) {
                    for (index, &similarity) in (first..all).zip(row) {
                        insert(nearest, k, similarity, index);
                    }
                }
            }
            Ok(nearest.iter().map(|nearest| each(nearest)).collect())
        })
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Keeps `nearest` the k largest similarities, in falling order.
#[inline(always)]
fn insert(nearest: &mut Vec<(f32, usize)>, k: usize, similarity: f32, index: usize) {
    if nearest.len() == k && nearest.last().is_some_and(|&(smallest, _)| similarity <= smallest) {
        return;
    }
    let place = nearest.partition_point(|&(other, _)| other >= similarity);
    nearest.insert(place, (similarity, index));
    nearest.truncate(k);
}

fn vote(nearest: &[(f32, usize)], labels: &[u32], classes: usize, temperature: f32) -> u32 {
    let mut votes = vec![0.0f64; classes];
    // Weights relative to the nearest: the same votes, and no overflow for small temperatures.
    let largest = nearest.first().map_or(0.0, |&(similarity, _)| similarity);
    for &(similarity, index) in nearest {
        votes[labels[index] as usize] += f64::from((similarity - largest) / temperature).exp();
    }
    let mut winner = 0;
    for (class, &weight) in votes.iter().enumerate() {
        if weight > votes[winner] {
            winner = class;
        }
    }
    winner as u32
}

/// Rows scaled to length 1 (rows shorter than 1e-12 as if of that length).
fn unit_rows(x: &[f32], width: usize) -> Vec<f32> {
    let mut y = x.to_vec();
    y.par_chunks_mut(width).for_each(|row| {
        let square: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum();
        let scale = 1.0 / square.sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
    });
    y
}
