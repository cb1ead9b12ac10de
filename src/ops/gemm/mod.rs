//! Matrix products with a reduction order that depends on nothing but K.
//!
//! In f32 the reduction is cut into blocks of 512, in f64 ([`double`]) of 256. Every output is
//! `((block 0) + block 1) + …`, each block one chain of fused multiply-adds in index order from 0, whatever the other
//! sizes, the threads, how operands lie and the instruction set (`cpu`).
//!
//! FLOPs: 2·M·N·K. Bytes: 4·(M·K + K·N + M·N).

#[cfg(cuda_kernels)]
pub mod check;
mod cpu;
#[cfg(cuda_kernels)]
pub mod cuda;
pub mod double;
mod mat;

pub use cpu::{Panels, Rows};
use cpu::{Right, Scalar, Target, product};
pub use mat::{Mat, Threads};

/// Length of a block of the reduction.
pub(super) const BLOCK: usize = f32::BLOCK;

/// `y[M,N] (+)= a[M,K] · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn nn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: `check` proved that each slice holds the whole matrix; `y` is borrowed mutably, so nothing aliases it.
    unsafe { raw(y.as_mut_ptr(), n, Mat::rows(a, k), Mat::rows(b, n), (m, n, k), accumulate, 1.0, threads) }
}

/// `y[M,N] (+)= a[M,K] · b[N,K]ᵀ`, all row-major. Adds to `y` when `accumulate`.
pub fn nt(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: as in `nn`.
    unsafe { raw(y.as_mut_ptr(), n, Mat::rows(a, k), Mat::rows(b, k).t(), (m, n, k), accumulate, 1.0, threads) }
}

/// `y[M,N] (+)= a[K,M]ᵀ · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn tn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: as in `nn`.
    unsafe { raw(y.as_mut_ptr(), n, Mat::rows(a, m).t(), Mat::rows(b, n), (m, n, k), accumulate, 1.0, threads) }
}

/// `y[M,N] (+)= a[M,K] · b[K,N]`, `b` packed. Adds to `y` when `accumulate`.
///
/// # Panics
/// If lengths do not fit.
pub fn packed(y: &mut [f32], a: &[f32], b: Rows<'_>, accumulate: bool, threads: Threads) {
    let (k, n) = (b.k(), b.n());
    let m = y.len() / n;
    assert!(y.len() == m * n && a.len() == m * k, "gemm: y {} a {} do not fit packed {k} × {n}", y.len(), a.len());
    let target = Target { y: y.as_mut_ptr(), stride: n, keep: accumulate, alpha: 1.0 };
    // SAFETY: the assertion proved that each slice holds its whole matrix; `y` is borrowed mutably.
    unsafe { product(target, Mat::rows(a, k), Right::Packed(b), (m, n, k), threads) }
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

/// `y = alpha·(a·b)`, added to what `y` held when `accumulate`; strided: rows of `y` are `y_stride` apart, its columns
/// adjacent.
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
    sizes: (usize, usize, usize),
    accumulate: bool,
    alpha: f32,
    threads: Threads,
) {
    let target = Target { y, stride: y_stride, keep: accumulate, alpha };
    // SAFETY: the caller's promise.
    unsafe { product(target, a, Right::Strided(b), sizes, threads) }
}
