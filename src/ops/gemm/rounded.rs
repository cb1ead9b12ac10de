//! Products of operands that are rounded to bf16 on the way, and sum in f32.
//!
//! Both are rounded by all threads, the larger one in blocks of rows, so that what is held of it is small. Where the
//! reduction is what is cut, it is at the ends of its own blocks: how much is rounded at once changes no bit.

use rayon::prelude::*;

use super::cpu::{Pair, Right, Scalar, Target, first_of, product};
use super::mat::{Mat, Threads};

/// Rows that are rounded at once: two blocks of the reduction.
const ROWS: usize = 4 * Pair::BLOCK;

/// Values that a thread rounds at least.
const VALUES: usize = 1 << 14;

/// Pairs of the adjacent values of rows `[_, k]`: `[_, ⌈k/2⌉]`.
fn along<'a>(buffer: &'a mut Vec<Pair>, values: &[f32], k: usize) -> &'a [Pair] {
    let wide = k.div_ceil(2);
    let pairs = first_of(buffer, values.len() / k * wide);
    let rows = VALUES.div_ceil(k);
    pairs.par_chunks_mut(rows * wide).zip(values.par_chunks(rows * k)).for_each(|(to, rows)| {
        Pair::round_rows(to, rows, k);
    });
    pairs
}

/// Pairs of the values that lie below each other in rows `[k, n]`: `[⌈k/2⌉, n]`.
fn across<'a>(buffer: &'a mut Vec<Pair>, values: &[f32], n: usize) -> &'a [Pair] {
    let pairs = first_of(buffer, values.len().div_ceil(2 * n) * n);
    let rows = VALUES.div_ceil(2 * n);
    pairs.par_chunks_mut(rows * n).zip(values.par_chunks(2 * rows * n)).for_each(|(to, rows)| {
        Pair::across_rows(to, rows, n);
    });
    pairs
}

/// [`super::raw`] of `a [M, K]` and `b [N, K]ᵀ`, rows of each adjacent, with all threads.
///
/// # Safety
/// Every element that the target addresses must be inside a live allocation, and no other thread may touch it.
pub(in crate::ops) unsafe fn nt(target: Target<f32>, a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) {
    assert!(a.len() == m * k && b.len() == n * k, "gemm: a {} b {} do not fit M {m} N {n} K {k}", a.len(), b.len());
    Pair::with_operands(|[left, right]| {
        let right = Mat::rows(along(right, b, k), k.div_ceil(2)).t();
        // SAFETY: the caller's promise; the operands are whole.
        unsafe { by_rows(target, left, a, right, (n, k)) }
    });
}

/// [`super::raw`] of `a [M, K]` and `b [K, N]`, as [`nt`].
///
/// # Safety
/// As [`nt`].
pub(in crate::ops) unsafe fn nn(target: Target<f32>, a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) {
    assert!(a.len() == m * k && b.len() == n * k, "gemm: a {} b {} do not fit M {m} N {n} K {k}", a.len(), b.len());
    Pair::with_operands(|[left, right]| {
        let right = Mat::rows(across(right, b, n), n);
        // SAFETY: the caller's promise; the operands are whole.
        unsafe { by_rows(target, left, a, right, (n, k)) }
    });
}

/// # Safety
/// As [`nt`], for the right operand as well.
unsafe fn by_rows(target: Target<f32>, left: &mut Vec<Pair>, a: &[f32], right: Mat<Pair>, (n, k): (usize, usize)) {
    let wide = k.div_ceil(2);
    for (i, a) in a.chunks(ROWS * k).enumerate() {
        let sizes = (a.len() / k, n, wide);
        let left = Mat::rows(along(left, a, k), wide);
        // SAFETY: the caller's promise, for these rows.
        unsafe { product(target.below(i * ROWS), left, Right::Strided(right), sizes, Threads::All) }
    }
}

/// `y[M,N] += a[K,M]ᵀ · b[K,N]`, all row-major.
pub(in crate::ops) fn tn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) {
    super::check(y, a, b, (m, n, k));
    let target = Target::of(y, n, true);
    Pair::with_operands(|[left, right]| {
        for (a, b) in a.chunks(ROWS * m).zip(b.chunks(ROWS * n)) {
            let sizes = (m, n, (b.len() / n).div_ceil(2));
            let (left, right) = (Mat::rows(across(left, a, m), m).t(), Mat::rows(across(right, b, n), n));
            // SAFETY: `check` proved that `y` is whole, and so are the operands.
            unsafe { product(target, left, Right::Strided(right), sizes, Threads::All) }
        }
    });
}
