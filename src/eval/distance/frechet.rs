//! The Fréchet distance of two normal distributions (Dowson & Landau 1982), which FID is of Inception's features
//! (Heusel et al. 2017, arXiv 1706.08500, equation 6).

use super::factor::factor;
use super::moments::Moments;
use super::spectrum::singular_values;
use crate::bail;
use crate::error::Result;
use crate::ops::gemm::{Threads, double};

/// A normal distribution: its mean `[D]`, and a factor `[D, rank]` of its covariance.
#[derive(Clone, Debug)]
pub struct Normal {
    mean: Vec<f64>,
    trace: f64,
    factor: Vec<f64>,
    rank: usize,
}

impl Normal {
    /// That of these moments.
    ///
    /// # Errors
    /// `Diverged` for a covariance that is not finite, `Interrupted` on a signal.
    pub fn of(moments: &Moments) -> Result<Self> {
        let trace = moments.trace();
        if !trace.is_finite() {
            bail!(Diverged, "the variances of {} features sum to {trace}: they are too large", moments.count);
        }
        let (factor, rank) = factor(&moments.covariance, moments.mean.len())?;
        Ok(Self { mean: moments.mean.clone(), trace, factor, rank })
    }

    /// ‖μ1 − μ2‖² + tr Σ1 + tr Σ2 − 2·tr (Σ1·Σ2)^½, squared as the literature gives it; a distance that rounding
    /// brought below 0 is 0.
    ///
    /// The last trace is the sum of the singular values of L1ᵀ·L2 with Σ = L·Lᵀ, whose squares are the eigenvalues of
    /// Σ1^½·Σ2·Σ1^½: exact to rounding where covariances are singular too, with fewer pictures than dimensions, so
    /// nothing is added to diagonals and no part of it can be imaginary.
    ///
    /// # Errors
    /// `Diverged` when the distance is not finite, `Interrupted` on a signal.
    ///
    /// # Panics
    /// When the widths differ.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        let width = self.mean.len();
        assert_eq!(width, other.mean.len());
        let between: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let mut product = vec![0.0; self.rank * other.rank];
        let sizes = (self.rank, other.rank, width);
        double::tn(&mut product, &self.factor, &other.factor, sizes, false, Threads::All);
        let root: f64 = singular_values(&product, self.rank, other.rank)?.iter().sum();
        let distance = between + self.trace + other.trace - 2.0 * root;
        if !distance.is_finite() {
            bail!(Diverged, "the Fréchet distance is {distance}: features are too large for their squares");
        }
        Ok(distance.max(0.0))
    }
}
