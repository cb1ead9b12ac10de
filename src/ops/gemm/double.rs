//! Matrix products in f64, for statistics over features: as in f32 with a reduction order that sizes of the result and
//! threads do not change.
//!
//! FLOPs: 2·M·N·K. Bytes: 8·(M·K + K·N + M·N).

use gemm::Parallelism;

use super::{PARALLEL_FLOPS, Threads};

/// Block length of the reduction; the crate never splits a K this short.
const KC: usize = 256;

/// `y[M,N] (+)= a[M,K] · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn nn(y: &mut [f64], a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    product(y, (a, k, 1), (b, n, 1), (m, n, k), accumulate, threads);
}

/// `y[M,N] (+)= a[M,K] · b[N,K]ᵀ`, all row-major. Adds to `y` when `accumulate`.
pub fn nt(y: &mut [f64], a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    product(y, (a, k, 1), (b, 1, k), (m, n, k), accumulate, threads);
}

/// `y[M,N] (+)= a[K,M]ᵀ · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn tn(y: &mut [f64], a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    product(y, (a, 1, m), (b, n, 1), (m, n, k), accumulate, threads);
}

/// Values of a matrix with the distance of its rows and of its columns.
type Strided<'a> = (&'a [f64], usize, usize);

fn product(
    y: &mut [f64],
    (a, a_row, a_col): Strided<'_>,
    (b, b_row, b_col): Strided<'_>,
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
    let parallelism = match threads {
        Threads::All if 2 * m * n * k >= PARALLEL_FLOPS => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    if !accumulate {
        y.fill(0.0);
    }
    for start in (0..k).step_by(KC) {
        // SAFETY: the assertion proved that each slice holds its whole matrix, of which the block from `start` on is a
        // part; `y` is borrowed mutably, so nothing aliases it.
        unsafe {
            gemm::gemm(
                m,
                n,
                KC.min(k - start),
                y.as_mut_ptr(),
                1,
                n as isize,
                true,
                a.as_ptr().add(start * a_col),
                a_col as isize,
                a_row as isize,
                b.as_ptr().add(start * b_row),
                b_col as isize,
                b_row as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
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
