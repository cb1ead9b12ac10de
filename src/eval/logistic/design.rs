//! Features as the regression takes them: standardised, and turned into the basis in which they do not correlate.

use rayon::prelude::*;

use crate::ops::gemm::{Threads, double};
use crate::ops::squares::Squares;
use crate::ops::symmetric::{eigen, transposed};

/// Rows that are standardised and turned, or evaluated, at once.
pub const ROWS: usize = 1024;

/// Mean and standard deviation (over N) of every feature of the training images.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    mean: Vec<f64>,
    /// 1 for a feature that all images have alike.
    deviation: Vec<f64>,
}

impl Standard {
    /// Of `features[N, width]`.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(features: &[f32], width: usize) -> Self {
        let count = (features.len() / width) as f64;
        assert!(count > 0.0, "standard: no features");
        let mut mean = vec![0.0; width];
        for row in features.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, &x)| *mean += f64::from(x));
        }
        mean.iter_mut().for_each(|mean| *mean /= count);
        let mut square = vec![0.0; width];
        let mut constant = vec![true; width];
        for row in features.chunks_exact(width) {
            for (j, &x) in row.iter().enumerate() {
                square[j] += (f64::from(x) - mean[j]).powi(2);
                constant[j] &= x == features[j];
            }
        }
        // The mean of equal numbers may be rounded, and what is left of them would be made a feature of.
        for (j, _) in constant.iter().enumerate().filter(|(_, constant)| **constant) {
            (mean[j], square[j]) = (f64::from(features[j]), count);
        }
        Self { mean, deviation: square.into_iter().map(|square| (square / count).sqrt()).collect() }
    }

    /// `features[N, D]` less the mean, over the deviation.
    pub fn apply(&self, features: &[f32]) -> Vec<f64> {
        let mut out = vec![0.0; features.len()];
        self.write(&mut out, features);
        out
    }

    fn write(&self, out: &mut [f64], features: &[f32]) {
        let width = self.mean.len();
        out.par_chunks_mut(width).zip(features.par_chunks(width)).for_each(|(out, row)| {
            out.iter_mut().zip(row).enumerate().for_each(|(j, (out, &x))| *out = self.value(j, x));
        });
    }

    /// The standardised value of feature `j`.
    fn value(&self, j: usize, x: f32) -> f64 {
        (f64::from(x) - self.mean[j]) / self.deviation[j]
    }
}

/// The standardised training features X in the basis of the eigenvectors of XᵀX. A penalty of squares is the same in
/// every basis; in this one the second derivatives of the loss are nearly diagonal.
#[derive(Debug)]
pub struct Design {
    pub width: usize,
    /// `[N, D]`.
    pub x: Vec<f64>,
    /// The squared lengths of the columns of `x`, `[D]`.
    pub squares: Vec<f64>,
    /// Row i holds feature i in the new basis, `[D, D]`.
    basis: Vec<f64>,
}

impl Design {
    /// Of `features[N, D]` standardised by `standard`.
    pub fn new(standard: &Standard, features: &[f32]) -> Self {
        let width = standard.mean.len();
        let mut gram = Squares::new(width);
        for features in features.chunks(ROWS * width) {
            gram.add(features.len() / width, |j, out| {
                let column = features.iter().skip(j).step_by(width);
                out.iter_mut().zip(column).for_each(|(out, &x)| *out = standard.value(j, x));
            });
        }
        let mut block = Vec::new();
        let (squares, vectors) = eigen(gram.matrix(), width);
        let basis = transposed(&vectors, width);
        let mut x = vec![0.0; features.len()];
        for (x, features) in x.chunks_mut(ROWS * width).zip(features.chunks(ROWS * width)) {
            block.resize(features.len(), 0.0);
            standard.write(&mut block, features);
            double::nn(x, &block, &basis, (features.len() / width, width, width), false, Threads::All);
        }
        // Of a singular matrix the least eigenvalues may be rounded below 0.
        let squares = squares.into_iter().map(|square| square.max(0.0)).collect();
        Self { width, x, squares, basis }
    }

    pub fn rows(&self) -> usize {
        self.x.len() / self.width
    }

    /// Weights `[D, K]` of the standardised features from `turned[D, K]`, those of `x`.
    pub fn weights(&self, turned: &[f64]) -> Vec<f64> {
        let mut weights = vec![0.0; turned.len()];
        double::nn(
            &mut weights,
            &self.basis,
            turned,
            (self.width, turned.len() / self.width, self.width),
            false,
            Threads::All,
        );
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_feature_is_zero_and_others_have_deviation_one() {
        let features: Vec<f32> = (0..300).flat_map(|i| [0.1, (i as f32).sin(), 3e-7 * (i % 2) as f32 + 1.0]).collect();
        let x = Standard::of(&features, 3).apply(&features);
        for (j, square) in [(0, 0.0), (1, 300.0), (2, 300.0)] {
            let column: Vec<f64> = x.iter().skip(j).step_by(3).copied().collect();
            assert!(column.iter().sum::<f64>().abs() < 1e-9, "{j}");
            assert!((column.iter().map(|x| x * x).sum::<f64>() - square).abs() < 1e-9, "{j}");
        }
        let one = Standard::of(&[2.0, -1.0], 2).apply(&[2.0, 4.0]);
        assert_eq!(one, [0.0, 5.0]);
    }

    #[test]
    fn columns_do_not_correlate_and_weights_come_back() {
        let features: Vec<f32> = (0..40).map(|i| ((i * i) as f32 * 0.7).sin()).collect();
        let standard = Standard::of(&features, 4);
        let (plain, design) = (standard.apply(&features), Design::new(&standard, &features));
        assert_eq!(design.rows(), 10);
        for a in 0..4 {
            for b in 0..4 {
                let product: f64 = design.x.chunks_exact(4).map(|row| row[a] * row[b]).sum();
                let want = if a == b { design.squares[a] } else { 0.0 };
                assert!((product - want).abs() < 1e-12, "{a} {b}: {product}");
            }
        }
        let turned = [0.5, -1.0, 2.0, 0.25];
        let weights = design.weights(&turned);
        for (row, plain) in design.x.chunks_exact(4).zip(plain.chunks_exact(4)) {
            let score = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
            assert!((score(row, &turned) - score(plain, &weights)).abs() < 1e-12);
        }
    }
}
