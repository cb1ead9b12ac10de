//! Matrix products in f64, row-major, on every core. As those in f32 they cut K into blocks of `KC`, so that the order
//! of every sum is the one of the rows.

use gemm::Parallelism;

use super::PARALLEL_FLOPS;

/// Block length of the reduction; the crate never splits a K this short.
const KC: usize = 256;

/// `y[M,N] (+)= a[M,K] · b[K,N]`. Adds to `y` when `accumulate`.
pub fn nn(y: &mut [f64], a: &[f64], b: &[f64], sizes: (usize, usize, usize), accumulate: bool) {
    product(y, a, (sizes.2, 1), b, sizes, accumulate);
}

/// `y[M,N] (+)= a[K,M]ᵀ · b[K,N]`. Adds to `y` when `accumulate`.
pub fn tn(y: &mut [f64], a: &[f64], b: &[f64], sizes: (usize, usize, usize), accumulate: bool) {
    product(y, a, (1, sizes.0), b, sizes, accumulate);
}

/// Element (r, c) of the left matrix is `a[r·rows + c·columns]`.
fn product(
    y: &mut [f64],
    a: &[f64],
    (rows, columns): (usize, usize),
    b: &[f64],
    (m, n, k): (usize, usize, usize),
    accumulate: bool,
) {
    assert!(
        y.len() == m * n && a.len() == m * k && b.len() == k * n,
        "gemm: y {} a {} b {} do not fit M {m} N {n} K {k}",
        y.len(),
        a.len(),
        b.len()
    );
    if !accumulate {
        y.fill(0.0);
    }
    let parallelism = if 2 * m * n * k >= PARALLEL_FLOPS { Parallelism::Rayon(0) } else { Parallelism::None };
    for start in (0..k).step_by(KC) {
        // SAFETY: each slice holds its whole matrix, as asserted, and the block [start, start + KC) ∩ [0, K) lies
        // inside; `y` is borrowed mutably, so nothing aliases it.
        unsafe {
            gemm::gemm(
                m,
                n,
                (k - start).min(KC),
                y.as_mut_ptr(),
                1,
                n as isize,
                true,
                a.as_ptr().add(start * columns),
                columns as isize,
                rows as isize,
                b.as_ptr().add(start * n),
                1,
                n as isize,
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

    #[test]
    fn products_are_those_of_plain_loops() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (1, 40, 300), (70, 33, 600), (2, 1, 513)] {
            let value = |i: usize| ((i * 7919 + 13) % 31) as f64 - 15.0;
            let (a, b): (Vec<f64>, Vec<f64>) = ((0..m * k).map(value).collect(), (0..k * n).map(value).collect());
            let transposed: Vec<f64> = (0..k * m).map(|i| a[(i % m) * k + i / m]).collect();
            let want = |i: usize| (0..k).map(|j| a[(i / n) * k + j] * b[j * n + i % n]).sum::<f64>();
            let want: Vec<f64> = (0..m * n).map(want).collect();
            let mut y = vec![f64::NAN; m * n];
            nn(&mut y, &a, &b, (m, n, k), false);
            assert_eq!(y, want, "{m} {n} {k}");
            tn(&mut y, &transposed, &b, (m, n, k), true);
            assert!(y.iter().zip(&want).all(|(y, want)| *y == 2.0 * want), "{m} {n} {k}");
        }
    }
}
