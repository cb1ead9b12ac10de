//! One episode: a few classes, a few images of each to learn from, and others to tell apart by the nearest class mean.

use serde::{Deserialize, Serialize};

use crate::rng::Stream;

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Ericsson et al. 2021: images of all parts are drawn from alike, features are taken as they are
    SslTransfer,
    /// El Banani et al. 2023: images to learn from are train's and val's, the others test's; the mean of the former is
    /// subtracted from all features, which are then scaled to unit length
    Lgssl,
}

/// Rows of features, by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// To learn from.
    pub support: Vec<Vec<usize>>,
    /// To tell apart.
    pub queries: Vec<Vec<usize>>,
}

/// Rows of features that an episode may draw, by class.
#[derive(Clone, Debug)]
pub enum Pools {
    /// Any of them to learn from or to tell apart.
    One(Vec<Vec<usize>>),
    Two {
        support: Vec<Vec<usize>>,
        queries: Vec<Vec<usize>>,
    },
}

/// Sizes of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    pub ways: usize,
    pub shots: usize,
    /// Images of a class to tell apart, or as many as there are.
    pub queries: usize,
}

impl Pools {
    pub fn classes(&self) -> usize {
        match self {
            Self::One(all) => all.len(),
            Self::Two { support, .. } => support.len(),
        }
    }

    /// What class `class` has too few of, if it has.
    pub fn lacks(&self, class: usize, shots: usize) -> Option<String> {
        match self {
            Self::One(all) if all[class].len() <= shots => {
                Some(format!("{} images, expected {} at least", all[class].len(), shots + 1))
            }
            Self::Two { support, .. } if support[class].len() < shots => {
                Some(format!("{} images to train, expected {shots} at least", support[class].len()))
            }
            Self::Two { queries, .. } if queries[class].is_empty() => Some("no image to test".into()),
            Self::One(_) | Self::Two { .. } => None,
        }
    }

    /// Images of class `class` that are left to tell apart.
    pub fn left(&self, class: usize, shots: usize) -> usize {
        match self {
            Self::One(all) => all[class].len().saturating_sub(shots),
            Self::Two { queries, .. } => queries[class].len(),
        }
    }

    /// Draws an episode; no class may lack anything.
    pub fn draw(&self, sizes: Sizes, stream: &mut Stream) -> Episode {
        let Sizes { ways, shots, queries } = sizes;
        let mut episode = Episode { support: Vec::with_capacity(ways), queries: Vec::with_capacity(ways) };
        let mut pick = |rows: &[usize], count: usize| -> Vec<usize> {
            stream.choose(rows.len(), count.min(rows.len())).into_iter().map(|i| rows[i]).collect()
        };
        let numbers: Vec<usize> = (0..self.classes()).collect();
        for class in pick(&numbers, ways) {
            let (learnt, asked) = match self {
                Self::One(all) => {
                    let mut learnt = pick(&all[class], shots + queries);
                    let asked = learnt.split_off(shots);
                    (learnt, asked)
                }
                Self::Two { support, queries: others } => (pick(&support[class], shots), pick(&others[class], queries)),
            };
            episode.support.push(learnt);
            episode.queries.push(asked);
        }
        episode
    }
}

impl Episode {
    /// The share of its queries whose class has the nearest mean, of equally near ones the first. `features[N, width]`
    /// are finite.
    pub fn score(&self, protocol: Protocol, features: &[f32], width: usize) -> f64 {
        let row = |i: usize| features[i * width..(i + 1) * width].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let support: Vec<Vec<Vec<f64>>> =
            self.support.iter().map(|rows| rows.iter().map(|&i| row(i)).collect()).collect();
        let centre = mean(support.iter().flatten(), width);
        let prepare = |mut x: Vec<f64>| {
            if protocol == Protocol::Lgssl {
                x.iter_mut().zip(&centre).for_each(|(x, centre)| *x -= centre);
                let length = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
                x.iter_mut().for_each(|x| *x /= length);
            }
            x
        };
        let class_mean = |rows: Vec<Vec<f64>>| {
            let rows: Vec<Vec<f64>> = rows.into_iter().map(prepare).collect();
            mean(rows.iter(), width)
        };
        let means: Vec<Vec<f64>> = support.into_iter().map(class_mean).collect();
        let (mut right, mut all) = (0, 0);
        for (class, rows) in self.queries.iter().enumerate() {
            for query in rows.iter().map(|&i| prepare(row(i))) {
                let distance = |mean: &Vec<f64>| mean.iter().zip(&query).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
                let distances: Vec<f64> = means.iter().map(distance).collect();
                let nearest = (1..means.len()).fold(0, |best, k| if distances[k] < distances[best] { k } else { best });
                right += usize::from(nearest == class);
                all += 1;
            }
        }
        f64::from(right as u32) / f64::from(all as u32)
    }
}

fn mean<'a>(rows: impl Iterator<Item = &'a Vec<f64>>, width: usize) -> Vec<f64> {
    let (mut sum, mut count) = (vec![0.0; width], 0.0);
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        count += 1.0;
    }
    sum.iter_mut().for_each(|sum| *sum /= count);
    sum
}
