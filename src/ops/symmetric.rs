//! Eigenvalues and eigenvectors of symmetric matrices in f64: Householder's reduction to three diagonals, then QL steps
//! with implicit shifts (Golub & Van Loan, Matrix Computations, 8.3). 9·N³ FLOPs or so. And Cholesky's factor of
//! positive ones (4.2), N³/3 FLOPs, and the inverse of that, as many.

use super::simd::vectorize;

/// QL steps for one eigenvalue; two are usual.
const STEPS: usize = 60;

/// Eigenvalues `[N]` in no order, and eigenvectors `[N, N]`, one a row, of the symmetric `matrix[N, N]`.
///
/// # Panics
/// When `matrix` is not N×N.
pub fn eigen(mut matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(matrix.len(), n * n, "eigen: {} values are no {n}×{n}", matrix.len());
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
    let mut vectors = tridiagonal(&mut matrix, n, &mut diagonal, &mut beside);
    ql(&mut diagonal, &mut beside, &mut vectors, n);
    (diagonal, vectors)
}

/// Reduces `a` to `diagonal[N]` and `beside[N]`, of which `beside[i]` stands between i and i + 1, and returns the
/// orthogonal matrix `[N, N]` whose rows are the new basis.
fn tridiagonal(a: &mut [f64], n: usize, diagonal: &mut [f64], beside: &mut [f64]) -> Vec<f64> {
    let mut reflections: Vec<(Vec<f64>, f64)> = Vec::with_capacity(n);
    for k in 0..n.saturating_sub(1) {
        // The column below the diagonal: the row beside it, as the matrix is symmetric.
        let mut v = a[k * n + k + 1..(k + 1) * n].to_vec();
        let m = v.len();
        let norm = dot(&v, &v).sqrt();
        let alpha = if v[0] > 0.0 { -norm } else { norm };
        diagonal[k] = a[k * n + k];
        beside[k] = alpha;
        v[0] -= alpha;
        let square = dot(&v, &v);
        let beta = if square > 0.0 { 2.0 / square } else { 0.0 };
        if beta > 0.0 {
            let row = |i: usize| (k + 1 + i) * n + k + 1..(k + 2 + i) * n;
            let mut w: Vec<f64> = (0..m).map(|i| beta * dot(&a[row(i)], &v)).collect();
            let shift = -0.5 * beta * dot(&w, &v);
            add(&mut w, shift, &v);
            for i in 0..m {
                add(&mut a[row(i)], -v[i], &w);
                add(&mut a[row(i)], -w[i], &v);
            }
        }
        reflections.push((v, beta));
    }
    if n > 0 {
        diagonal[n - 1] = a[n * n - 1];
    }
    // The product of the reflections, from the last on, which touches the lower right only; then its transpose.
    let mut q = vec![0.0; n * n];
    (0..n).for_each(|i| q[i * n + i] = 1.0);
    for (k, (v, beta)) in reflections.iter().enumerate().rev() {
        let row = |i: usize| (k + 1 + i) * n + k + 1..(k + 2 + i) * n;
        let mut u = vec![0.0; v.len()];
        (0..v.len()).for_each(|i| add(&mut u, v[i], &q[row(i)]));
        (0..v.len()).for_each(|i| add(&mut q[row(i)], -beta * v[i], &u));
    }
    transposed(&q, n)
}

/// The transpose of `a[N, N]`.
pub fn transposed(a: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|i| a[(i % n) * n + i / n]).collect()
}

/// The lower triangle L `[N, N]` with L·Lᵀ = `matrix`, zeros above; only the lower triangle of `matrix` is read.
/// Nothing if that is not positive definite in f64.
pub fn cholesky(mut matrix: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    assert_eq!(matrix.len(), n * n, "cholesky: {} values are no {n}×{n}", matrix.len());
    for i in 0..n {
        let (above, row) = matrix.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..=j * n + j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let left = row[i] - dot(&row[..i], &row[..i]);
        // What is no number is not above 0 either.
        if left.is_nan() || left <= 0.0 || !left.is_finite() {
            return None;
        }
        row[i] = left.sqrt();
        row[i + 1..n].fill(0.0);
    }
    Some(matrix)
}

/// The inverse of the lower triangle `l[N, N]`, a lower triangle too.
pub fn inverse_of_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        let (above, row) = inverse.split_at_mut(i * n);
        for k in 0..i {
            add(&mut row[..=k], l[i * n + k], &above[k * n..=k * n + k]);
        }
        let pivot = l[i * n + i];
        row[..i].iter_mut().for_each(|value| *value /= -pivot);
        row[i] = 1.0 / pivot;
    }
    inverse
}

/// Turns `vectors` and the three diagonals until there is one.
fn ql(d: &mut [f64], e: &mut [f64], vectors: &mut [f64], n: usize) {
    for l in 0..n {
        for _ in 0..STEPS {
            let small = |i: &usize| *i + 1 == n || e[*i].abs() <= f64::EPSILON * (d[*i].abs() + d[*i + 1].abs());
            let m = (l..n).find(small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            // The shift is the eigenvalue of the first two by two that is the nearer one.
            let half = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (half + half.hypot(1.0).copysign(half));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut whole = true;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    // It fell apart on the way; what is below is left as it is.
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    whole = false;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = d[i + 1] - p;
                let r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                let (upper, lower) = vectors.split_at_mut((i + 1) * n);
                rotate(&mut upper[i * n..], &mut lower[..n], c, s);
            }
            if whole {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
}

/// (x, y) ← (c·x − s·y, s·x + c·y).
fn rotate(x: &mut [f64], y: &mut [f64], c: f64, s: f64) {
    vectorize(
        #[inline(always)]
        || {
            for (x, y) in x.iter_mut().zip(y) {
                (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
            }
        },
    );
}

/// `y += scale · x`.
fn add(y: &mut [f64], scale: f64, x: &[f64]) {
    vectorize(
        #[inline(always)]
        || y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x),
    );
}

/// Sum of products in eight lanes, combined in a fixed order.
pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    vectorize(
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; 8];
            let (x, x_rest) = x.split_at(x.len() / 8 * 8);
            let (y, y_rest) = y.split_at(x.len());
            for (x, y) in x.chunks_exact(8).zip(y.chunks_exact(8)) {
                for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
                    *lane += x * y;
                }
            }
            let rest: f64 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
            let [a, b, c, d, e, f, g, h] = lanes;
            ((a + e) + (b + f)) + ((c + g) + (d + h)) + rest
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors are a basis of unit length in which the matrix is the eigenvalues, also where it is singular,
    /// falls into parts, or is diagonal already.
    #[test]
    fn the_matrix_is_put_together_again() {
        let wave =
            |n: usize| (0..n * n).map(move |i| ((i / n * (i % n)) as f64).sin() + ((i / n + i % n) as f64).cos());
        let parts = vec![2.0, 1.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.5, 0.0, 0.0, 0.5, 3.0];
        let cases = [
            (1, vec![-4.0]),
            (2, vec![0.0, 1.0, 1.0, 0.0]),
            (3, vec![5.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0]),
            (4, parts),
            (5, vec![1.0; 25]),
            (37, wave(37).collect()),
        ];
        for (n, matrix) in cases {
            let (values, vectors) = eigen(matrix.clone(), n);
            let size = dot(&matrix, &matrix).sqrt();
            for i in 0..n {
                for j in 0..n {
                    let (x, y) = (&vectors[i * n..(i + 1) * n], &vectors[j * n..(j + 1) * n]);
                    assert!((dot(x, y) - f64::from(i == j)).abs() < 1e-13, "{n}: {i} {j}");
                    let put = (0..n).map(|k| values[k] * vectors[k * n + i] * vectors[k * n + j]).sum::<f64>();
                    assert!((put - matrix[i * n + j]).abs() < 1e-13 * size, "{n}: {i} {j} {put}");
                }
            }
        }
    }

    #[test]
    fn factors_of_positive_matrices_and_their_inverses() {
        for n in [1, 2, 9, 40] {
            let x = |i: usize, j: usize| ((i * 31 + j * 17 + i * j) as f64).sin();
            let value = |i: usize, j: usize| (0..n).map(|k| x(i, k) * x(j, k)).sum::<f64>() + f64::from(i == j);
            let matrix: Vec<f64> = (0..n * n).map(|at| value(at / n, at % n)).collect();
            let l = cholesky(matrix.clone(), n).unwrap();
            let inverse = inverse_of_lower(&l, n);
            for i in 0..n {
                for j in 0..n {
                    let put: f64 = (0..n).map(|k| l[i * n + k] * l[j * n + k]).sum();
                    assert!((put - matrix[i * n + j]).abs() < 1e-12, "{n}: {i} {j}");
                    let unit: f64 = (0..n).map(|k| inverse[i * n + k] * l[k * n + j]).sum();
                    assert!((unit - f64::from(i == j)).abs() < 1e-12, "{n}: {i} {j}");
                    assert!(j <= i || (l[i * n + j] == 0.0 && inverse[i * n + j] == 0.0));
                }
            }
        }
        for matrix in [vec![1.0, 2.0, 2.0, 1.0], vec![0.0; 4], vec![f64::NAN; 4], vec![1.0, 0.0, 0.0, f64::INFINITY]] {
            assert_eq!(cholesky(matrix, 2), None);
        }
    }
}
