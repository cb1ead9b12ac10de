//! Matrix products in f32 through the `gemm` crate, with a reduction order that does not depend on the batch.
//!
//! The crate cuts K into blocks whose length may depend on M and N; two batch sizes would then round differently.
//! Here K is cut into blocks of `KC` before the crate sees it, so every output is `((block 0) + block 1) + …`,
//! each block one fused-multiply-add chain in index order. With a row-major `b` ([`nn`], [`tn`]) this holds for every
//! M, so the generator stores its weights `[K, N]`. ([`nt`] may take an inner-product kernel when M·N ≤ 256.)
//!
//! FLOPs: 2·M·N·K. Bytes: 4·(M·K + K·N + M·N).

use gemm::Parallelism;

#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;
pub mod double;

/// Block length of the reduction; the crate never splits a K this short.
const KC: usize = 512;

/// Below this many FLOPs a second thread costs more than it saves (about 20 µs to wake one).
const PARALLEL_FLOPS: usize = 1 << 22;

/// Whether one product may use the whole thread pool or must stay on the calling thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threads {
    All,
    One,
}

/// A strided read-only matrix: element (r, c) is `data[r·row_stride + c·col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat {
    pub data: *const f32,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl Mat {
    /// Row-major `[_, cols]`.
    pub fn rows(data: &[f32], cols: usize) -> Self {
        Self { data: data.as_ptr(), row_stride: cols, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}

/// `y[M,N] (+)= a[M,K] · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn nn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: `check` proved that each slice holds the whole matrix; `y` is borrowed mutably, so nothing aliases it.
    unsafe { raw(y.as_mut_ptr(), n, Mat::rows(a, k), Mat::rows(b, n), (m, n, k), scale(accumulate), 1.0, threads) }
}

/// `y[M,N] (+)= a[M,K] · b[N,K]ᵀ`, all row-major. Adds to `y` when `accumulate`.
pub fn nt(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: as in `nn`.
    unsafe { raw(y.as_mut_ptr(), n, Mat::rows(a, k), Mat::rows(b, k).t(), (m, n, k), scale(accumulate), 1.0, threads) }
}

/// `y[M,N] (+)= a[K,M]ᵀ · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn tn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: as in `nn`.
    unsafe { raw(y.as_mut_ptr(), n, Mat::rows(a, m).t(), Mat::rows(b, n), (m, n, k), scale(accumulate), 1.0, threads) }
}

fn scale(accumulate: bool) -> f32 {
    if accumulate { 1.0 } else { 0.0 }
}

fn check(y: &[f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) {
    assert!(
        y.len() == m * n && a.len() == m * k && b.len() == k * n,
        "gemm: y {} a {} b {} do not fit M {m} N {n} K {k}",
        y.len(),
        a.len(),
        b.len()
    );
}

/// `y = keep·y + alpha·(a·b)`, strided; rows of `y` are `y_stride` apart, its columns adjacent.
///
/// # Safety
/// Every element addressed by (`y`, `y_stride`), `a` and `b` for these sizes must be inside a live allocation,
/// and no other thread may touch the addressed part of `y` during the call.
#[expect(clippy::too_many_arguments, reason = "a BLAS call in full")]
pub unsafe fn raw(
    y: *mut f32,
    y_stride: usize,
    a: Mat,
    b: Mat,
    (m, n, k): (usize, usize, usize),
    keep: f32,
    alpha: f32,
    threads: Threads,
) {
    if m == 1 && n > 1 {
        // One row would take the crate's matrix–vector path, which sums in another order than the matrix path:
        // compute the row twice instead (row stride 0) into a scratch of two rows. Both begin as the row does, so that
        // blocks of K are added to it one after the other, as to any row.
        // SAFETY: the row of `y`, which the caller vouched for.
        let row = unsafe { std::slice::from_raw_parts_mut(y, n) };
        let mut two = if keep == 0.0 { vec![0.0f32; 2 * n] } else { [&*row, &*row].concat() };
        let twice = Mat { row_stride: 0, ..a };
        // SAFETY: `two` holds 2 rows of n; reads are those the caller vouched for.
        unsafe { raw(two.as_mut_ptr(), n, twice, b, (2, n, k), keep, alpha, threads) };
        row.copy_from_slice(&two[..n]);
        return;
    }
    let parallelism = match threads {
        Threads::All if 2 * m * n * k >= PARALLEL_FLOPS => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    let mut start = 0;
    loop {
        let length = (k - start).min(KC);
        let keep = if start == 0 { keep } else { 1.0 };
        // SAFETY: the block [start, start + length) of K lies inside the matrices the caller vouched for.
        unsafe {
            gemm::gemm(
                m,
                n,
                length,
                y,
                1,
                y_stride as isize,
                keep != 0.0,
                a.data.add(start * a.col_stride),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.add(start * b.row_stride),
                b.col_stride as isize,
                b.row_stride as isize,
                keep,
                alpha,
                false,
                false,
                false,
                parallelism,
            );
        }
        start += length;
        if start >= k {
            break;
        }
    }
}
