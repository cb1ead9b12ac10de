//! Mean and covariance of features.

use rayon::prelude::*;

use crate::bail;
use crate::error::Result;
use crate::eval::stop::check_stop;
use crate::ops::squares::Squares;

/// Rows that are summed by themselves: what makes the order of sums one of the sizes alone.
const ROWS: usize = 256;

/// Mean `[D]` and covariance `[D, D]` (over N − 1) of N features.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    pub count: usize,
    pub mean: Vec<f64>,
    pub covariance: Vec<f64>,
}

impl Moments {
    /// Of the rows of `features[N, width]`. Blocks of rows are summed in their order, each row less the mean.
    ///
    /// # Errors
    /// `Data` for fewer than two rows, which have no covariance; `Interrupted` on a signal.
    ///
    /// # Panics
    /// When `features` are no rows of `width`.
    pub fn of(features: &[f32], width: usize) -> Result<Self> {
        assert!(width > 0 && features.len().is_multiple_of(width), "{} values: no rows of {width}", features.len());
        let count = features.len() / width;
        if count < 2 {
            bail!(Data, "{count} picture(s) have no covariance; give two at least, better some thousands");
        }
        let sums = |rows: &[f32]| {
            let mut sum = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
            }
            sum
        };
        let partial: Vec<Vec<f64>> = features.par_chunks(ROWS * width).map(sums).collect();
        let mut mean = vec![0.0; width];
        for sum in &partial {
            mean.iter_mut().zip(sum).for_each(|(mean, v)| *mean += v);
        }
        mean.iter_mut().for_each(|v| *v /= count as f64);
        let mut covariance = Squares::new(width);
        for rows in features.chunks(ROWS * width) {
            check_stop()?;
            covariance.add(rows.len() / width, |j, out| {
                let column = rows.iter().skip(j).step_by(width);
                out.iter_mut().zip(column).for_each(|(out, &v)| *out = f64::from(v) - mean[j]);
            });
        }
        let mut covariance = covariance.matrix();
        covariance.par_iter_mut().for_each(|v| *v /= (count - 1) as f64);
        Ok(Self { count, mean, covariance })
    }

    /// Sum of the variances.
    pub fn trace(&self) -> f64 {
        self.covariance.iter().step_by(self.mean.len() + 1).sum()
    }
}
