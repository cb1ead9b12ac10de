//! The second derivatives of a classifier's loss where it has come to, as one matrix over features for all its classes.
//!
//! Those of class k are `C·Σ p_ik·(1 − p_ik)·x_i·x_iᵀ` and the penalty's, beside what couples classes. Images that are
//! told apart surely count little, so that at weak penalties a few images make up all of it, and no diagonal is near.
//! The mean over classes is a single matrix of the size of a feature: L-BFGS begins from its inverse in the place of a
//! multiple of one.

use crate::ops::gemm::{Threads, double};
use crate::ops::symmetric::{cholesky, inverse_of_lower};

/// Share of a diagonal that is added to it: what keeps rounding from making the matrix indefinite.
const RIDGE: f64 = 1e-12;

/// The inverse of such a matrix L·Lᵀ, as L⁻ᵀ·L⁻¹.
#[derive(Debug)]
pub struct Curvature {
    /// L⁻¹ `[D, D]`.
    inverse: Vec<f64>,
    size: usize,
}

impl Curvature {
    /// Of `matrix[D, D]`, of which the lower triangle is read; nothing where rounding leaves it indefinite.
    pub fn new(mut matrix: Vec<f64>, size: usize) -> Option<Self> {
        for i in 0..size {
            matrix[i * size + i] *= 1.0 + RIDGE;
        }
        Some(Self { inverse: inverse_of_lower(&cholesky(matrix, size)?, size), size })
    }

    /// The inverse times `x[D, K]`.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let shape = (self.size, x.len() / self.size, self.size);
        let (mut half, mut y) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        double::nn(&mut half, &self.inverse, x, shape, false, Threads::One);
        double::tn(&mut y, &self.inverse, &half, shape, false, Threads::One);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_undoes_the_matrix() {
        let n = 30;
        let x = |i: usize, j: usize| ((i * 31 + j * 17 + i * j) as f64).sin();
        let value = |i: usize, j: usize| (0..n).map(|k| x(i, k) * x(j, k)).sum::<f64>() + f64::from(i == j);
        let matrix: Vec<f64> = (0..n * n).map(|at| value(at / n, at % n)).collect();
        let curvature = Curvature::new(matrix.clone(), n).unwrap();
        let wanted: Vec<f64> = (0..n * 2).map(|i| (i as f64).cos()).collect();
        let mut right = vec![0.0; n * 2];
        double::nn(&mut right, &matrix, &wanted, (n, 2, n), false, Threads::One);
        for (got, want) in curvature.apply(&right).iter().zip(&wanted) {
            assert!((got - want).abs() < 1e-10, "{got} {want}");
        }
        assert!(Curvature::new(vec![1.0, 0.0, 2.0, 1.0], 2).is_none());
    }
}
