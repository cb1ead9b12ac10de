//! A factor of a covariance: Cholesky's with pivots, which ends at the rank.

use rayon::prelude::*;

use super::vectors::dot;
use crate::error::Result;
use crate::eval::stop::check_stop;

/// Rows of a task.
const ROWS: usize = 64;

/// `L[D, r]` with L·Lᵀ = `a[D, D]`, symmetric without negative eigenvalues, and its rank r. What is left when every
/// pivot is lost in the rounding of the first (D·ε times it) is taken for zero, so that a matrix of fewer samples than
/// dimensions has the rank it has.
///
/// # Errors
/// `Interrupted` on a signal.
pub(super) fn factor(a: &[f64], d: usize) -> Result<(Vec<f64>, usize)> {
    assert_eq!(a.len(), d * d);
    let mut left: Vec<f64> = a.iter().step_by(d + 1).copied().collect();
    let smallest = left.iter().copied().fold(0.0, f64::max) * d as f64 * f64::EPSILON;
    let mut done = vec![false; d];
    let mut l = vec![0.0; d * d];
    let mut rank = 0;
    while rank < d {
        check_stop()?;
        // The first of the largest.
        let open = (0..d).filter(|&i| !done[i]);
        let Some(pivot) = open.reduce(|best, i| if left[i] > left[best] { i } else { best }) else { break };
        if left[pivot] <= smallest {
            break;
        }
        let root = left[pivot].sqrt();
        let row = l[pivot * d..pivot * d + rank].to_vec();
        l.par_chunks_mut(ROWS * d).enumerate().for_each(|(block, l)| {
            for (i, l) in l.chunks_exact_mut(d).enumerate() {
                let i = block * ROWS + i;
                if !done[i] {
                    l[rank] = (a[i * d + pivot] - dot(&l[..rank], &row)) / root;
                }
            }
        });
        l[pivot * d + rank] = root;
        done[pivot] = true;
        (0..d).filter(|&i| !done[i]).for_each(|i| left[i] -= l[i * d + rank].powi(2));
        rank += 1;
    }
    Ok((l.chunks_exact(d).flat_map(|row| &row[..rank]).copied().collect(), rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x[n, d]ᵀ·x` of numbers without a pattern.
    fn gram(n: usize, d: usize) -> Vec<f64> {
        let x = |i: usize, j: usize| ((i * 7919 + j * 104_729 + i * j * 31) % 1009) as f64 / 1009.0 - 0.5;
        (0..d * d).map(|at| (0..n).map(|i| x(i, at / d) * x(i, at % d)).sum()).collect()
    }

    #[test]
    fn factors_give_the_matrix_and_its_rank() {
        for (n, d) in [(200, 70), (9, 70), (70, 70), (1, 5)] {
            let a = gram(n, d);
            let (l, rank) = factor(&a, d).unwrap();
            assert_eq!(rank, n.min(d));
            for (at, &want) in a.iter().enumerate() {
                let got = dot(&l[at / d * rank..][..rank], &l[at % d * rank..][..rank]);
                assert!((got - want).abs() < 1e-12, "{n} {d} at {at}: {got} {want}");
            }
        }
        assert_eq!(factor(&[0.0; 9], 3).unwrap(), (Vec::new(), 0));
    }
}
