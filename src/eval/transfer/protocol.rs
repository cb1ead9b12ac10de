//! From the features of a data set's three parts to its score: the strength of the penalty that is best on val, then a
//! fit to train and val, then the test.

use super::metric::{average_precision, mean_per_class, top1};
use crate::bail;
use crate::error::Result;
use crate::eval::logistic::classes::Classes;
use crate::eval::logistic::design::{Design, Standard};
use crate::eval::logistic::lbfgs::Limits;
use crate::eval::logistic::loss::Targets;
use crate::eval::logistic::{Fit, fit};

/// Strengths that are tried.
pub const STRENGTHS: usize = 45;

/// Places of the parts in arrays of three.
const PARTS: [&str; 3] = ["train", "val", "test"];
const TRAIN: usize = 0;
const VAL: usize = 1;
const TEST: usize = 2;

/// The strengths λ = 1/C of the penalty, evenly in their logarithm from 1e-6 to 1e5.
pub fn lambdas() -> [f64; STRENGTHS] {
    std::array::from_fn(|i| 10f64.powf(-6.0 + 11.0 * i as f64 / (STRENGTHS - 1) as f64))
}

/// What the images of train, val and test are, in that order.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// The class of each; what is said is top-1, or the mean of the classes' shares.
    Classes { labels: [Vec<u32>; 3], mean_per_class: bool },
    /// Of each thing, by name, which images show it; what is said is mean average precision.
    Things(Vec<(String, [Vec<bool>; 3])>),
}

/// Features `[N, D]` of train, val and test, and what the images are.
#[derive(Clone, Debug)]
pub struct Task {
    /// The data set's, for messages.
    pub name: String,
    pub width: usize,
    pub features: [Vec<f32>; 3],
    pub truth: Truth,
}

/// What was found of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The place of the chosen strength among [`lambdas`].
    pub chosen: usize,
    /// The score on val at every strength, percent.
    pub validation: Vec<f64>,
    /// The score on the test images, percent.
    pub test: f64,
    /// Iterations of the last fit; the largest of several.
    pub iterations: usize,
    /// Fits, of all strengths and the last, that were stopped before their minimum.
    pub stopped: usize,
}

/// Classifiers at several strengths, and what they were fitted to.
struct Trained {
    standard: Standard,
    /// None of things.
    classes: Classes,
    fits: Vec<Vec<Fit>>,
}

impl Task {
    /// Runs the protocol; `done` is told how many strengths are new.
    ///
    /// # Errors
    /// `Data` when there is nothing to tell apart; `Interrupted` on a signal.
    pub fn run(&self, limits: Limits, done: impl FnMut(usize)) -> Result<Found> {
        self.check()?;
        let lambdas = lambdas();
        let rising: Vec<f64> = lambdas.iter().rev().map(|lambda| 1.0 / lambda).collect();
        let mut swept = self.train(&[TRAIN], &rising, limits, done)?;
        swept.fits.reverse();
        let x = swept.standard.apply(&self.features[VAL]);
        let validation: Vec<f64> = swept.fits.iter().map(|fits| self.score(&swept.classes, fits, &x, VAL)).collect();
        // Of equal scores the first, which is the weakest penalty's.
        let chosen = (1..STRENGTHS).fold(0, |best, i| if validation[i] > validation[best] { i } else { best });
        let last = self.train(&[TRAIN, VAL], &[1.0 / lambdas[chosen]], limits, |_| ())?;
        let x = last.standard.apply(&self.features[TEST]);
        let fits = last.fits.iter().flatten();
        Ok(Found {
            chosen,
            test: self.score(&last.classes, &last.fits[0], &x, TEST),
            validation,
            iterations: fits.clone().map(|fit| fit.iterations).max().unwrap_or(0),
            stopped: swept.fits.iter().flatten().chain(fits).filter(|fit| !fit.converged).count(),
        })
    }

    /// Refuses what has no score: one class only, and a thing that no image shows, or every image.
    fn check(&self) -> Result<()> {
        let name = &self.name;
        match &self.truth {
            Truth::Classes { labels, .. } => {
                let count = labels[TRAIN].len();
                if Classes::of(&labels[TRAIN]).count() < 2 {
                    bail!(Data, "{name}: its {count} train images are of one class: there is nothing to tell apart");
                }
            }
            Truth::Things(things) => {
                for (thing, parts) in things {
                    for (part, present) in PARTS.iter().zip(parts) {
                        let (some, all) = (present.iter().filter(|present| **present).count(), present.len());
                        if some == 0 || some == all {
                            bail!(Data, "{name}: {some} of its {all} {part} images show {thing}: that has no score");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Fits classifiers to the images of `parts` at every one of `strengths` (C, rising).
    fn train(&self, parts: &[usize], strengths: &[f64], limits: Limits, done: impl FnMut(usize)) -> Result<Trained> {
        let features = parts.iter().map(|&part| &self.features[part][..]).collect::<Vec<_>>().concat();
        let standard = Standard::of(&features, self.width);
        let design = Design::new(&standard, &features);
        let (classes, fits) = match &self.truth {
            Truth::Classes { labels, .. } => {
                let labels = parts.iter().map(|&part| &labels[part][..]).collect::<Vec<_>>().concat();
                let classes = Classes::of(&labels);
                let places = classes.places(&labels);
                let targets = Targets::Classes { labels: &places, classes: classes.count() };
                (classes, fit(&design, &[targets], strengths, limits, done)?)
            }
            Truth::Things(things) => {
                let of = |shown: &[Vec<bool>; 3]| parts.iter().flat_map(|&part| shown[part].clone()).collect();
                let present: Vec<Vec<bool>> = things.iter().map(|(_, shown)| of(shown)).collect();
                let targets: Vec<Targets<'_>> = present.iter().map(|present| Targets::Present(present)).collect();
                (Classes::of(&[]), fit(&design, &targets, strengths, limits, done)?)
            }
        };
        Ok(Trained { standard, classes, fits })
    }

    /// The score of `fits` on the images of `part`, whose standardised features are `x`, in percent.
    fn score(&self, classes: &Classes, fits: &[Fit], x: &[f64], part: usize) -> f64 {
        match &self.truth {
            Truth::Classes { labels, mean_per_class: mean } => {
                let predicted = classes.largest(&fits[0].scores(x));
                if *mean { mean_per_class(&predicted, &labels[part]) } else { top1(&predicted, &labels[part]) }
            }
            Truth::Things(things) => {
                let each = fits.iter().zip(things);
                let each = each.map(|(fit, (_, shown))| average_precision(&fit.scores(x), &shown[part]));
                each.sum::<f64>() / things.len() as f64
            }
        }
    }
}
