//! Cross-entropy of a block of rows under several classifiers at once, and its derivatives by their scores.

use rayon::prelude::*;

use crate::ops::math::exp_nonpositive_f64;
use crate::ops::simd::vectorize;

/// Rows of one task: sums are added up task by task, in the order of the rows.
const ROWS: usize = 32;

/// What one classifier is to tell apart.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// One of `classes`, each of which some row has: softmax of as many scores.
    Classes { labels: &'a [u32], classes: usize },
    /// Whether a row has what is looked for: the logistic function of one score.
    Present(&'a [bool]),
}

impl Targets<'_> {
    /// Scores of a row.
    pub fn columns(&self) -> usize {
        match self {
            Self::Classes { classes, .. } => *classes,
            Self::Present(_) => 1,
        }
    }

    /// The variance of a score's label before anything is learned: the second derivative of the loss at scores of 0.
    pub fn curvature(&self) -> f64 {
        match self {
            Self::Classes { classes, .. } => 1.0 / *classes as f64,
            Self::Present(_) => 0.25,
        }
    }

    /// The mean over classes of the second derivatives of the loss of row `index` by its scores, given the first: with
    /// probabilities p that of a class is p·(1 − p), and K − 1 of these are free.
    pub fn weight(&self, index: usize, derivatives: &[f64]) -> f64 {
        match self {
            // A derivative is p, and p − 1 where the row has the class.
            Self::Classes { labels, classes } => {
                let of = |(class, d): (usize, &f64)| match class == labels[index] as usize {
                    true => -d * (1.0 + d),
                    false => d * (1.0 - d),
                };
                derivatives.iter().enumerate().map(of).sum::<f64>() / (classes - 1).max(1) as f64
            }
            Self::Present(_) => derivatives[0].abs() * (1.0 - derivatives[0].abs()),
        }
    }
}

/// What is summed over rows.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Of every classifier.
    pub losses: Vec<f64>,
    /// Of every score, the derivatives.
    pub derivatives: Vec<f64>,
}

/// Puts into the place of `scores[rows, columns]` the derivatives of the rows' losses by them, and adds what there is
/// to sum to `sums`. The first row is row `first` of the targets; the classifiers' columns lie side by side.
pub fn differentiate(scores: &mut [f64], first: usize, classifiers: &[Targets<'_>], sums: &mut Sums) {
    let columns = sums.derivatives.len();
    let tasks = scores.par_chunks_mut(ROWS * columns).enumerate().map(|(task, scores)| {
        let mut sums = Sums { losses: vec![0.0; classifiers.len()], derivatives: vec![0.0; columns] };
        let mut saved = vec![Saved::default(); classifiers.len()];
        for (i, row) in scores.chunks_exact_mut(columns).enumerate() {
            of_row(row, first + task * ROWS + i, classifiers, &mut saved, &mut sums);
        }
        sums
    });
    for task in tasks.collect::<Vec<_>>() {
        sums.losses.iter_mut().zip(task.losses).for_each(|(sum, loss)| *sum += loss);
        sums.derivatives.iter_mut().zip(task.derivatives).for_each(|(sum, derivative)| *sum += derivative);
    }
}

/// What of a classifier's scores is needed when they are powers already.
#[derive(Clone, Copy, Default)]
struct Saved {
    /// The largest score, and its column.
    largest: (f64, usize),
    /// The largest score less that of the label; of one score, itself.
    gap: f64,
}

fn of_row(row: &mut [f64], index: usize, classifiers: &[Targets<'_>], saved: &mut [Saved], sums: &mut Sums) {
    let mut rest = &mut *row;
    for (targets, saved) in classifiers.iter().zip(&mut *saved) {
        let (scores, others) = rest.split_at_mut(targets.columns());
        match targets {
            Targets::Classes { labels, .. } => {
                let mut largest = (scores[0], 0);
                for (column, &score) in scores.iter().enumerate() {
                    if score > largest.0 {
                        largest = (score, column);
                    }
                }
                *saved = Saved { largest, gap: largest.0 - scores[labels[index] as usize] };
                scores.iter_mut().for_each(|score| *score -= largest.0);
            }
            Targets::Present(_) => {
                saved.gap = scores[0];
                scores[0] = -scores[0].abs();
            }
        }
        rest = others;
    }
    vectorize(
        #[inline(always)]
        || row.iter_mut().for_each(|score| *score = exp_nonpositive_f64(*score)),
    );
    let (mut rest, mut at) = (&mut *row, 0);
    for (i, (targets, saved)) in classifiers.iter().zip(saved).enumerate() {
        let (powers, others) = rest.split_at_mut(targets.columns());
        sums.losses[i] += match targets {
            Targets::Classes { labels, .. } => of_classes(powers, labels[index] as usize, *saved),
            Targets::Present(present) => of_one(&mut powers[0], present[index], saved.gap),
        };
        for (sum, derivative) in sums.derivatives[at..].iter_mut().zip(&*powers) {
            *sum += derivative;
        }
        at += powers.len();
        rest = others;
    }
}

/// Loss of a row whose scores less the largest have these powers of e, which become its derivatives. What is beside the
/// largest is summed by itself: it is all there is of the loss of a row that is right and sure.
fn of_classes(powers: &mut [f64], label: usize, Saved { largest: (_, largest), gap }: Saved) -> f64 {
    powers[largest] = 0.0;
    let others: f64 = powers.iter().sum();
    let scale = 1.0 / (1.0 + others);
    powers.iter_mut().for_each(|power| *power *= scale);
    powers[largest] = if label == largest { -others * scale } else { scale };
    if label != largest {
        powers[label] -= 1.0;
    }
    others.ln_1p() + gap
}

/// The same of one score, of which `power` is e^−|score|.
fn of_one(power: &mut f64, present: bool, score: f64) -> f64 {
    let loss = power.ln_1p();
    let small = *power / (1.0 + *power);
    let right = (score >= 0.0) == present;
    let size = if right { small } else { 1.0 / (1.0 + *power) };
    *power = if present { -size } else { size };
    if right { loss } else { loss + score.abs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses and derivatives by their definitions, of several classifiers beside each other, in rows of several tasks.
    #[test]
    fn rows_are_those_of_the_definitions() {
        let rows = 2 * ROWS + 5;
        let labels: Vec<u32> = (0..rows as u32).map(|i| i * i % 3).collect();
        let present: Vec<bool> = (0..rows).map(|i| i % 4 == 1).collect();
        let classifiers = [
            Targets::Classes { labels: &labels, classes: 3 },
            Targets::Present(&present),
            Targets::Classes { labels: &labels, classes: 3 },
        ];
        let scores: Vec<f64> = (0..rows * 7).map(|i| 30.0 * (i as f64 * 1.3).sin()).collect();
        let mut got = scores.clone();
        let mut sums = Sums { losses: vec![0.0; 3], derivatives: vec![0.0; 7] };
        differentiate(&mut got[..ROWS * 7], 0, &classifiers, &mut sums);
        differentiate(&mut got[ROWS * 7..], ROWS, &classifiers, &mut sums);
        let weights = |i: usize| {
            let row = &got[i * 7..(i + 1) * 7];
            [&row[..3], &row[3..4], &row[4..]]
                .iter()
                .zip(&classifiers)
                .map(|(d, of)| of.weight(i, d))
                .collect::<Vec<_>>()
        };
        let (mut losses, mut derivatives) = ([0.0; 3], [0.0; 7]);
        for (i, row) in scores.chunks_exact(7).enumerate() {
            let mut want = Vec::new();
            for (classifier, scores) in [&row[..3], &row[3..4], &row[4..]].into_iter().enumerate() {
                if let [score] = *scores {
                    let p = 1.0 / (1.0 + (-score).exp());
                    assert!((weights(i)[classifier] - p * (1.0 - p)).abs() < 1e-13, "{i}");
                    losses[classifier] -= if present[i] { p.ln() } else { (1.0 / (1.0 + score.exp())).ln() };
                    want.push(p - f64::from(present[i]));
                    continue;
                }
                let sum: f64 = scores.iter().map(|score| score.exp()).sum();
                let square: f64 = scores.iter().map(|score| (score.exp() / sum).powi(2)).sum();
                assert!((weights(i)[classifier] - (1.0 - square) / 2.0).abs() < 1e-13, "{i}");
                losses[classifier] += sum.ln() - scores[labels[i] as usize];
                want.extend((0..3).map(|k| scores[k].exp() / sum - f64::from(labels[i] == k as u32)));
            }
            for (k, want) in want.into_iter().enumerate() {
                derivatives[k] += want;
                assert!((got[i * 7 + k] - want).abs() < 1e-13, "{i} {k}");
            }
        }
        assert!(losses.iter().zip(&sums.losses).all(|(want, got)| (want - got).abs() < 1e-11 * want));
        assert!(derivatives.iter().zip(&sums.derivatives).all(|(want, got)| (want - got).abs() < 1e-11));
    }

    /// Where a row is right and sure, its loss is small, not lost.
    #[test]
    fn small_losses_are_not_rounded_away() {
        let classifiers = [Targets::Classes { labels: &[1], classes: 2 }, Targets::Present(&[true])];
        let mut sums = Sums { losses: vec![0.0; 2], derivatives: vec![0.0; 3] };
        let mut scores = [-20.0, 30.0, 50.0];
        differentiate(&mut scores, 0, &classifiers, &mut sums);
        let want = (-50f64).exp();
        assert!(sums.losses.iter().all(|loss| (loss / want - 1.0).abs() < 1e-14), "{sums:?}");
        assert!(scores.iter().all(|derivative| (derivative.abs() / want - 1.0).abs() < 1e-14), "{scores:?}");
    }
}
