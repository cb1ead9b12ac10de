//! Singular values: Householder's reflections to a bidiagonal matrix, then the implicit QL steps (Golub & Van Loan,
//! Matrix Computations, 5.4 and 8.3) on the symmetric tridiagonal matrix that has them, and their negatives, as
//! eigenvalues. Each is right to the rounding of the largest, small and zero ones too, where eigenvalues of a product
//! with its transpose would be right to the root of that.
//!
//! FLOPs: 4·(m·n² − n³/3).

use rayon::prelude::*;

use super::vectors::dot;
use crate::bail;
use crate::error::Result;
use crate::eval::stop::check_stop;
use crate::ops::simd::vectorize;

/// Rows of a task.
const ROWS: usize = 64;

/// Steps that one eigenvalue may take; two are usual.
const STEPS: usize = 60;

/// Singular values of `a[rows, columns]`, falling, as many as the smaller side. Those of a symmetric matrix without
/// negative eigenvalues are its eigenvalues.
///
/// # Errors
/// `Diverged` for a matrix with values that are not finite; `Interrupted` on a signal.
///
/// # Panics
/// When `a` has another length.
pub fn singular_values(a: &[f64], rows: usize, columns: usize) -> Result<Vec<f64>> {
    assert_eq!(a.len(), rows * columns);
    if a.iter().any(|v| !v.is_finite()) {
        bail!(Diverged, "a matrix of {rows}×{columns} has values that are not finite: features are too large");
    }
    let (tall, m, n) = match rows >= columns {
        true => (a.to_vec(), rows, columns),
        false => ((0..columns * rows).map(|at| a[at % rows * columns + at / rows]).collect(), columns, rows),
    };
    let mut off = bidiagonal(tall, m, n)?;
    let mut diagonal = vec![0.0; off.len() + 1];
    eigenvalues(&mut diagonal, &mut off)?;
    diagonal.sort_unstable_by(|a, b| b.total_cmp(a));
    diagonal.truncate(n);
    diagonal.iter_mut().for_each(|value| *value = value.max(0.0));
    Ok(diagonal)
}

/// A reflection x − β·v·(vᵀx) that brings `x` to (α, 0, …): (v in place of x, β, α).
fn reflection(x: &mut [f64]) -> (f64, f64) {
    let Some(&first) = x.first() else { return (0.0, 0.0) };
    let alpha = -dot(x, x).sqrt().copysign(first);
    if alpha == 0.0 {
        return (0.0, 0.0);
    }
    x[0] = first - alpha;
    (2.0 / dot(x, x), alpha)
}

/// The bidiagonal matrix of `a[m, n]`, m ≥ n: its diagonal and superdiagonal in turn, `[2n − 1]`.
fn bidiagonal(mut a: Vec<f64>, m: usize, n: usize) -> Result<Vec<f64>> {
    let mut values = Vec::with_capacity(2 * n);
    for k in 0..n {
        check_stop()?;
        let mut u: Vec<f64> = (k..m).map(|i| a[i * n + k]).collect();
        let (beta, diagonal) = reflection(&mut u);
        values.push(diagonal);
        if k + 1 == n {
            break;
        }
        // β·uᵀA of the columns that are left; tasks are summed in their order.
        let below = &a[k * n..];
        let sums = |(a, u): (&[f64], &[f64])| {
            let mut sum = vec![0.0; n - k - 1];
            a.chunks_exact(n).zip(u).for_each(|(a, &u)| add(&mut sum, beta * u, &a[k + 1..]));
            sum
        };
        let partial: Vec<Vec<f64>> = below.par_chunks(ROWS * n).zip(u.par_chunks(ROWS)).map(sums).collect();
        let mut w = vec![0.0; n - k - 1];
        partial.iter().for_each(|sum| add(&mut w, 1.0, sum));
        let mut v = a[k * n + k + 1..(k + 1) * n].to_vec();
        add(&mut v, -u[0], &w);
        let (gamma, superdiagonal) = reflection(&mut v);
        values.push(superdiagonal);
        // Both reflections of every row below in one pass.
        a[(k + 1) * n..].par_chunks_mut(ROWS * n).zip(u[1..].par_chunks(ROWS)).for_each(|(a, u)| {
            for (a, &u) in a.chunks_exact_mut(n).zip(u) {
                let row = &mut a[k + 1..];
                add(row, -u, &w);
                let along = gamma * dot(row, &v);
                add(row, -along, &v);
            }
        });
    }
    Ok(values)
}

/// `y += scale·x`.
fn add(y: &mut [f64], scale: f64, x: &[f64]) {
    vectorize(
        #[inline(always)]
        || y.iter_mut().zip(x).for_each(|(y, &x)| *y += scale * x),
    );
}

/// Eigenvalues of the symmetric matrix with this diagonal and these values beside it, in place of the diagonal.
fn eigenvalues(diagonal: &mut [f64], off: &mut [f64]) -> Result<()> {
    let largest = diagonal.iter().chain(off.iter()).fold(0.0, |largest: f64, v| largest.max(v.abs()));
    let small = largest * f64::EPSILON;
    for first in 0..diagonal.len() {
        let mut steps = 0;
        loop {
            // The block that begins here ends where nothing couples it to the rest.
            let last = (first..off.len()).find(|&i| off[i].abs() <= small).unwrap_or(off.len());
            if last == first {
                break;
            }
            steps += 1;
            if steps > STEPS {
                bail!(Failed, "the singular values of a matrix of {} did not converge", diagonal.len());
            }
            step(&mut diagonal[first..=last], &mut off[first..last]);
        }
    }
    Ok(())
}

/// One implicit QL step with Wilkinson's shift: rotations from the last row up.
fn step(d: &mut [f64], e: &mut [f64]) {
    let last = e.len();
    let half = (d[1] - d[0]) / (2.0 * e[0]);
    let shift = d[0] - e[0] / (half + half.hypot(1.0).copysign(half));
    let (mut sine, mut cosine, mut carried) = (1.0, 1.0, 0.0);
    let mut bulge = d[last] - shift;
    for i in (0..last).rev() {
        let (f, b) = (sine * e[i], cosine * e[i]);
        let r = f.hypot(bulge);
        if i + 1 < last {
            e[i + 1] = r;
        }
        if r == 0.0 {
            // The block falls apart here.
            d[i + 1] -= carried;
            return;
        }
        (sine, cosine) = (f / r, bulge / r);
        let rest = d[i + 1] - carried;
        let turned = (d[i] - rest) * sine + 2.0 * cosine * b;
        carried = sine * turned;
        d[i + 1] = rest + carried;
        bulge = cosine * turned - b;
    }
    d[0] -= carried;
    e[0] = bulge;
}
