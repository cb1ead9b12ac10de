//! Precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991), density and coverage (Naeem et al. 2020, arXiv
//! 2002.09797): each picture of a set has a ball whose radius is the distance to its k-th nearest neighbour in that
//! set.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::vectors::{dot, widened};
use crate::bail;
use crate::error::Result;
use crate::eval::stop::check_stop;
use crate::metrics::Progress;
use crate::ops::gemm::{Threads, double};

/// Pictures compared with as many others at once.
const BLOCK: usize = 256;

/// Shares of pictures, and the mean density.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Of the generated pictures, those in a ball of a real one.
    pub precision: f64,
    /// Of the real pictures, those in a ball of a generated one.
    pub recall: f64,
    /// Balls of real pictures that a generated picture lies in, over k, mean.
    pub density: f64,
    /// Of the real pictures, those with a generated one in their ball.
    pub coverage: f64,
    pub k: usize,
}

/// Of `real[N, width]` and `generated[M, width]`. A picture on the rim of a ball is in it.
///
/// # Errors
/// `Data` when a set has no more than `k` pictures, `Interrupted` on a signal.
pub fn neighbours(real: &[f32], generated: &[f32], width: usize, k: usize) -> Result<Neighbours> {
    let (n, m) = (real.len() / width, generated.len() / width);
    if k == 0 || n <= k || m <= k {
        bail!(
            Data,
            "{k} nearest neighbours of {n} real and {m} generated pictures: expected 1 or more, and more pictures in \
             each set"
        );
    }
    let blocks = n.div_ceil(BLOCK) + 2 * m.div_ceil(BLOCK);
    let progress = Progress::of_short_work(blocks as u64, "neighbours", ("block", 1));
    let (norms, generated_norms) = (norms(real, width), norms(generated, width));
    let real = Set { features: real, norms: &norms, width };
    let generated = Set { features: generated, norms: &generated_norms, width };
    let (real_radii, generated_radii) = (radii(real, k, &progress)?, radii(generated, k, &progress)?);
    let found = blocks_of(generated, real, &progress, |first, rows| {
        let mut found = Found { precise: 0, inside: 0, covered: vec![false; n], recalled: vec![false; n] };
        for (j, row) in rows.chunks_exact(n).enumerate() {
            let mut balls = 0;
            for (i, &distance) in row.iter().enumerate() {
                if distance <= real_radii[i] {
                    balls += 1;
                    found.covered[i] = true;
                }
                found.recalled[i] |= distance <= generated_radii[first + j];
            }
            found.precise += usize::from(balls > 0);
            found.inside += balls;
        }
        found
    })?;
    progress.finish();
    let any = |of: fn(&Found) -> &[bool]| (0..n).filter(|&i| found.iter().any(|block| of(block)[i])).count() as f64;
    let sum = |of: fn(&Found) -> usize| found.iter().map(of).sum::<usize>() as f64;
    Ok(Neighbours {
        precision: sum(|block| block.precise) / m as f64,
        recall: any(|block| &block.recalled) / n as f64,
        density: sum(|block| block.inside) / (k * m) as f64,
        coverage: any(|block| &block.covered) / n as f64,
        k,
    })
}

/// What a block of generated pictures found.
struct Found {
    /// Pictures in a ball of a real one, and balls in all.
    precise: usize,
    inside: usize,
    /// Of every real picture: whether one lies in its ball, and whether it lies in one's.
    covered: Vec<bool>,
    recalled: Vec<bool>,
}

/// Features with their squared lengths.
#[derive(Clone, Copy)]
struct Set<'a> {
    features: &'a [f32],
    norms: &'a [f64],
    width: usize,
}

fn norms(features: &[f32], width: usize) -> Vec<f64> {
    features.par_chunks(width).map(widened).map(|row| dot(&row, &row)).collect()
}

/// Squared radius of every picture's ball.
fn radii(set: Set<'_>, k: usize, progress: &Progress) -> Result<Vec<f64>> {
    let count = set.norms.len();
    let of_block = |_: usize, rows: &[f64]| -> Vec<f64> {
        let radius = |row: &[f64]| {
            // The nearest is the picture itself, or a copy of it, which is as near.
            let mut row = row.to_vec();
            *row.select_nth_unstable_by(k, f64::total_cmp).1
        };
        rows.chunks_exact(count).map(radius).collect()
    };
    Ok(blocks_of(set, set, progress, of_block)?.concat())
}

/// `of(first, distances[rows, M])` of blocks of `a` from picture `first` on: squared distances to all M of `b`.
fn blocks_of<T: Send>(
    a: Set<'_>,
    b: Set<'_>,
    progress: &Progress,
    of: impl Fn(usize, &[f64]) -> T + Sync,
) -> Result<Vec<T>> {
    let (width, count) = (a.width, b.norms.len());
    let block = |(number, rows): (usize, &[f32])| {
        check_stop()?;
        let (first, x) = (number * BLOCK, widened(rows));
        let rows = x.len() / width;
        let mut distances = vec![0.0; rows * count];
        let mut products = vec![0.0; rows * BLOCK];
        for (other, y) in b.features.chunks(BLOCK * width).enumerate() {
            let (start, columns) = (other * BLOCK, y.len() / width);
            let products = &mut products[..rows * columns];
            double::nt(products, &x, &widened(y), (rows, columns, width), false, Threads::One);
            for (i, products) in products.chunks_exact(columns).enumerate() {
                let row = &mut distances[i * count + start..][..columns];
                for (j, (distance, product)) in row.iter_mut().zip(products).enumerate() {
                    *distance = (a.norms[first + i] + b.norms[start + j] - 2.0 * product).max(0.0);
                }
            }
        }
        progress.advance(1);
        Ok(of(first, &distances))
    };
    a.features.par_chunks(BLOCK * width).enumerate().map(block).collect()
}
