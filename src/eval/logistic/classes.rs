//! Class numbers counted without gaps: a regression has scores for the classes that it was shown, for no others.

use std::collections::BTreeSet;

/// The classes that some image has, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes(Vec<u32>);

impl Classes {
    /// Those of `labels`.
    pub fn of(labels: &[u32]) -> Self {
        Self(labels.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The place of every label among them, all of which must be.
    pub fn places(&self, labels: &[u32]) -> Vec<u32> {
        labels.iter().map(|label| self.0.partition_point(|class| class < label) as u32).collect()
    }

    /// The class of each row of `scores[N, K]`: that of the largest score, of equal ones the first.
    pub fn largest(&self, scores: &[f64]) -> Vec<u32> {
        let largest = |row: &[f64]| (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best });
        scores.chunks_exact(self.count()).map(|row| self.0[largest(row)]).collect()
    }
}
