//! The kernel distance KID (Bińkowski et al. 2018, arXiv 1801.01401): the squared maximum mean discrepancy of two sets
//! under the kernel (xᵀy/D + 1)³, without bias, over random subsets.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::vectors::widened;
use crate::bail;
use crate::error::Result;
use crate::eval::stop::check_stop;
use crate::metrics::Progress;
use crate::ops::gemm::{Threads, double};
use crate::rng::{Domain, Stream};

/// Subsets that are drawn, and the pictures of each set in one. [`Default`] is the paper's evaluation in its usual
/// form: 100 of 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subsets {
    pub count: usize,
    pub size: usize,
}

impl Default for Subsets {
    fn default() -> Self {
        Self { count: 100, size: 1000 }
    }
}

/// The distances of the subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelDistance {
    pub mean: f64,
    /// Standard deviation over the subsets (over their number).
    pub std: f64,
    /// As they were drawn: no larger than either set.
    pub subsets: Subsets,
}

/// The distance of `a[N, width]` and `b[M, width]`. `seed` draws each subset without replacement; where a subset is all
/// of both sets, one says it.
///
/// # Errors
/// `Data` when a subset would be smaller than two pictures, `Interrupted` on a signal.
pub fn kernel_distance(
    a: &[f32],
    b: &[f32],
    width: usize,
    Subsets { count, size }: Subsets,
    seed: u64,
) -> Result<KernelDistance> {
    let (n, m) = (a.len() / width, b.len() / width);
    let size = size.min(n).min(m);
    if size < 2 {
        bail!(Data, "subsets of {size} picture(s) have no pairs: the kernel distance takes two at least of each set");
    }
    let count = if size == n && size == m { 1 } else { count };
    let progress = Progress::of_short_work(count as u64, "kernel distance", ("subset", 1));
    let mut distances = Vec::with_capacity(count);
    for subset in 0..count {
        check_stop()?;
        let draw = |features: &[f32], set: u32| -> Vec<f64> {
            let mut stream = Stream::new(seed, Domain::Subset, [subset as u32, set, 0]);
            let rows = stream.choose(features.len() / width, size);
            rows.iter().flat_map(|&row| widened(&features[row * width..(row + 1) * width])).collect()
        };
        distances.push(discrepancy(&draw(a, 0), &draw(b, 1), width));
        progress.advance(1);
    }
    progress.finish();
    let mean = distances.iter().sum::<f64>() / count as f64;
    let variance = distances.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
    Ok(KernelDistance { mean, std: variance.sqrt(), subsets: Subsets { count, size } })
}

/// The estimate without bias of two subsets of the same size: means over pairs of different pictures within each, less
/// twice the mean over all pairs across.
fn discrepancy(x: &[f64], y: &[f64], width: usize) -> f64 {
    let size = x.len() / width;
    let mut products = vec![0.0; size * size];
    let mut total = |a: &[f64], b: &[f64], whole: bool| -> f64 {
        double::nt(&mut products, a, b, (size, size, width), false, Threads::All);
        let row = |(i, row): (usize, &[f64])| -> f64 {
            let others = row.iter().enumerate().filter(|&(j, _)| whole || j != i);
            others.map(|(_, v)| (v / width as f64 + 1.0).powi(3)).sum()
        };
        let rows: Vec<f64> = products.par_chunks(size).enumerate().map(row).collect();
        rows.iter().sum()
    };
    let within = total(x, x, false) + total(y, y, false);
    let pairs = size as f64;
    within / (pairs * (pairs - 1.0)) - 2.0 * total(x, y, true) / (pairs * pairs)
}
