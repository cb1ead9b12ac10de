//! Scores of features of unit length, with a label for the caption of each, in f64.
//!
//! FLOPs: 2·N²·D for uniformity, 2·N·D·min(N, D) for the Vendi score.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::eval::distance::spectrum::singular_values;
use crate::eval::stop::check_stop;
use crate::metrics::Progress;
use crate::ops::gemm::{Threads, double};

/// Pictures compared with the others at once.
const BLOCK: usize = 256;

/// What a set of pictures is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Captions with two pictures or more.
    pub captions: usize,
    /// Mean cosine of the pictures of a caption, mean over captions of two and more; none without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<f64>,
    /// Mean cosine of all pairs of pictures of different captions; none of a single caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<f64>,
    /// exp of the entropy of the eigenvalues of the matrix of cosines over N (Friedman & Dieng 2022, arXiv 2210.02410,
    /// definition 3.1): how many pictures that have nothing in common would be as diverse.
    pub vendi: f64,
    /// Mean squared distance of two pictures of one caption, over all such pairs (Wang & Isola 2020, arXiv 2005.10242,
    /// α = 2); none without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignment: Option<f64>,
    /// ln of the mean of exp(−2·squared distance) over all pairs of pictures (the same, t = 2); none of one picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniformity: Option<f64>,
}

/// The mean cosine of the pictures of one caption, of which there are two or more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Within {
    /// Label of the caption.
    pub label: u32,
    pub pictures: usize,
    pub cosine: f64,
}

/// Rows of `features[N, width]` in f64, scaled to unit length.
///
/// # Errors
/// `Data` for a row of zeros, which has no direction; `picture` says which a row is of.
pub fn unit_rows(features: &[f32], width: usize, picture: impl Fn(usize) -> String) -> Result<Vec<f64>> {
    let mut rows: Vec<f64> = features.iter().map(|&v| f64::from(v)).collect();
    for (i, row) in rows.chunks_exact_mut(width).enumerate() {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length == 0.0 {
            bail!(Data, "{}: its feature is all zeros, which has no direction; take another encoder", picture(i));
        }
        row.iter_mut().for_each(|v| *v /= length);
    }
    Ok(rows)
}

/// Of every caption with two pictures or more, in the order of labels: mean cosine of its pairs.
///
/// # Panics
/// When a label is not below `classes`.
pub fn within(rows: &[f64], width: usize, labels: &[u32], classes: usize) -> Vec<Within> {
    let (sums, counts) = sums(rows, width, labels, classes);
    let of = |(label, (sum, &count)): (usize, (&[f64], &usize))| {
        (count > 1).then(|| Within { label: label as u32, pictures: count, cosine: pairs(sum, count) })
    };
    sums.chunks_exact(width).zip(&counts).enumerate().filter_map(of).collect()
}

/// Mean cosine of the pairs of `count` unit vectors with this sum: ‖Σu‖² counts each pair twice and each vector once.
fn pairs(sum: &[f64], count: usize) -> f64 {
    let (square, count) = (square(sum), count as f64);
    (square - count) / (count * (count - 1.0))
}

fn square(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum()
}

/// Sum `[classes, width]` and number of the rows of each label.
fn sums(rows: &[f64], width: usize, labels: &[u32], classes: usize) -> (Vec<f64>, Vec<usize>) {
    let (mut sums, mut counts) = (vec![0.0; classes * width], vec![0; classes]);
    for (row, &label) in rows.chunks_exact(width).zip(labels) {
        let label = label as usize;
        counts[label] += 1;
        sums[label * width..(label + 1) * width].iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
    }
    (sums, counts)
}

/// All scores of unit `rows[N, width]` with `labels[N]` below `classes`.
///
/// # Errors
/// `Interrupted` on a signal.
pub fn scores(rows: &[f64], width: usize, labels: &[u32], classes: usize) -> Result<Scores> {
    let count = labels.len();
    let found = within(rows, width, labels, classes);
    let (sums, counts) = sums(rows, width, labels, classes);
    let mut all = vec![0.0; width];
    sums.chunks_exact(width).for_each(|sum| all.iter_mut().zip(sum).for_each(|(all, v)| *all += v));
    // Ordered pairs of the same caption, a picture with itself included, and of different ones.
    let same: usize = counts.iter().map(|count| count * count).sum();
    let of_same: f64 = sums.chunks_exact(width).map(square).sum();
    let different = count * count - same;
    let alike = same - count;
    Ok(Scores {
        captions: found.len(),
        within: mean(found.iter().map(|caption| caption.cosine)),
        between: (different > 0).then(|| (square(&all) - of_same) / different as f64),
        vendi: vendi(rows, width)?,
        alignment: (alike > 0).then(|| 2.0 - 2.0 * (of_same - count as f64) / alike as f64),
        uniformity: if count > 1 { Some(uniformity(rows, width)?) } else { None },
    })
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

/// By the smaller of the two matrices of products, which have the same eigenvalues but for zeros.
fn vendi(rows: &[f64], width: usize) -> Result<f64> {
    let count = rows.len() / width;
    let side = count.min(width);
    let mut gram = vec![0.0; side * side];
    match count < width {
        true => double::nt(&mut gram, rows, rows, (count, count, width), false, Threads::All),
        false => double::tn(&mut gram, rows, rows, (width, width, count), false, Threads::All),
    }
    gram.iter_mut().for_each(|v| *v /= count as f64);
    let values = singular_values(&gram, side, side)?;
    Ok(values.iter().filter(|&&v| v > 0.0).map(|v| -v * v.ln()).sum::<f64>().exp())
}

fn uniformity(rows: &[f64], width: usize) -> Result<f64> {
    let count = rows.len() / width;
    let progress = Progress::of_short_work(count.div_ceil(BLOCK) as u64, "uniformity", ("block", 1));
    let block = |(number, x): (usize, &[f64])| -> Result<f64> {
        check_stop()?;
        // Pairs with the pictures behind: those of blocks behind, and of this one the later of two.
        let first = number * BLOCK;
        let (size, others) = (x.len() / width, count - first);
        let mut cosines = vec![0.0; size * others];
        double::nt(&mut cosines, x, &rows[first * width..], (size, others, width), false, Threads::One);
        let of_row = |(i, row): (usize, &[f64])| -> f64 {
            row[i + 1..].iter().map(|cosine| (-2.0 * (2.0 - 2.0 * cosine)).exp()).sum()
        };
        progress.advance(1);
        Ok(cosines.chunks_exact(others).enumerate().map(of_row).sum())
    };
    let sums: Vec<f64> = rows.par_chunks(BLOCK * width).enumerate().map(block).collect::<Result<_>>()?;
    progress.finish();
    let pairs = count as f64 * (count as f64 - 1.0) / 2.0;
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}
