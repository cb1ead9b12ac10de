//! Matrix products in f64, for statistics over features: as in f32 with a reduction order that sizes of the result and
//! threads do not change.
//!
//! FLOPs: 2·M·N·K. Bytes: 8·(M·K + K·N + M·N).

use super::cpu::{Right, Target, product as multiply};
use super::{Mat, Threads};

/// `y[M,N] (+)= a[M,K] · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn nn(y: &mut [f64], a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    product(y, (a, Mat::rows(a, k)), (b, Mat::rows(b, n)), (m, n, k), accumulate, threads);
}

/// `y[M,N] (+)= a[M,K] · b[N,K]ᵀ`, all row-major. Adds to `y` when `accumulate`.
pub fn nt(y: &mut [f64], a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    product(y, (a, Mat::rows(a, k)), (b, Mat::rows(b, k).t()), (m, n, k), accumulate, threads);
}

/// `y[M,N] (+)= a[K,M]ᵀ · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn tn(y: &mut [f64], a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    product(y, (a, Mat::rows(a, m).t()), (b, Mat::rows(b, n)), (m, n, k), accumulate, threads);
}

/// A matrix, and the values it must lie in.
type Strided<'a> = (&'a [f64], Mat<f64>);

fn product(
    y: &mut [f64],
    (a, rows): Strided<'_>,
    (b, columns): Strided<'_>,
    (m, n, k): (usize, usize, usize),
    accumulate: bool,
    threads: Threads,
) {
    assert!(
        y.len() == m * n && a.len() == m * k && b.len() == k * n,
        "gemm in f64: y {} a {} b {} do not fit M {m} N {n} K {k}",
        y.len(),
        a.len(),
        b.len()
    );
    let y = y.as_mut_ptr();
    let target = Target { y, stride: n, from: accumulate.then_some((y.cast_const(), n)), alpha: 1.0 };
    // SAFETY: the assertion proved that each slice holds its whole matrix; `y` is borrowed mutably, so nothing aliases
    // it.
    unsafe { multiply(target, rows, Right::Strided(columns), (m, n, k), threads) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 37 + seed * 11) % 23) as f64 - 11.0).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (m, n, k) in [(1, 5, 3), (4, 1, 300), (7, 6, 257), (33, 17, 600)] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            // Whole numbers: every order of sums gives the same bits.
            let sum = |at: &dyn Fn(usize) -> f64| (0..k).map(at).sum::<f64>();
            let mut y = vec![2.0; m * n];
            nt(&mut y, &a, &b, (m, n, k), true, Threads::All);
            for (i, &y) in y.iter().enumerate() {
                assert_eq!(y, 2.0 + sum(&|l| a[i / n * k + l] * b[i % n * k + l]), "nt {m} {n} {k}: {i}");
            }
            let mut y = vec![f64::NAN; m * n];
            nn(&mut y, &a, &b, (m, n, k), false, Threads::All);
            for (i, &y) in y.iter().enumerate() {
                assert_eq!(y, sum(&|l| a[i / n * k + l] * b[l * n + i % n]), "nn {m} {n} {k}: {i}");
            }
            let mut y = vec![2.0; m * n];
            tn(&mut y, &a, &b, (m, n, k), false, Threads::One);
            for (i, &y) in y.iter().enumerate() {
                assert_eq!(y, sum(&|l| a[l * m + i / n] * b[l * n + i % n]), "tn {m} {n} {k}: {i}");
            }
        }
    }
}
