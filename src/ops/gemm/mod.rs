//! Matrix products with a reduction order that depends on nothing but K.
//!
//! In f32 the reduction is cut into blocks of 512, in f64 ([`double`]) of 256. Every output is `((block 0) + block 1) +
//! …`, each block one chain of fused multiply-adds in index order from 0, whatever the other sizes, the threads, how
//! operands lie and the instruction set (`cpu`). Operands in bf16 are [`Pair`]s of values, blocks of which are 1,024
//! values long; how the two products of a pair are added is the instruction set's affair.
//!
//! FLOPs: 2·M·N·K. Bytes: 4·(M·K + K·N + M·N).

#[cfg(cuda_kernels)]
pub mod check;
mod cpu;
#[cfg(cuda_kernels)]
pub mod cuda;
pub mod double;
mod mat;
pub(super) mod rounded;

use serde::{Deserialize, Serialize};

pub use cpu::{Pair, Panels, Rows, Scalar};
use cpu::{Right, is_fast_in_bf16, product};
pub(super) use cpu::{Target, first_of};
pub use mat::{Mat, Threads};

/// What products multiply; they sum in f32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operands {
    #[default]
    F32,
    /// Weights and what they are multiplied with, each rounded to the nearest.
    Bf16,
}

impl Operands {
    /// What this processor multiplies faster.
    pub fn fastest() -> Self {
        if is_fast_in_bf16() { Self::Bf16 } else { Self::F32 }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a weight.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Length of a block of the reduction.
pub(super) const BLOCK: usize = f32::BLOCK;

/// `y[M,N] (+)= a[M,K] · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn nn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: `check` proved that each slice holds the whole matrix; `y` is borrowed mutably, so nothing aliases it.
    unsafe { raw(Target::of(y, n, accumulate), Mat::rows(a, k), Mat::rows(b, n), (m, n, k), threads) }
}

/// `y[M,N] (+)= a[M,K] · b[N,K]ᵀ`, all row-major. Adds to `y` when `accumulate`.
pub fn nt(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: as in `nn`.
    unsafe { raw(Target::of(y, n, accumulate), Mat::rows(a, k), Mat::rows(b, k).t(), (m, n, k), threads) }
}

/// `y[M,N] (+)= a[K,M]ᵀ · b[K,N]`, all row-major. Adds to `y` when `accumulate`.
pub fn tn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), accumulate: bool, threads: Threads) {
    check(y, a, b, (m, n, k));
    // SAFETY: as in `nn`.
    unsafe { raw(Target::of(y, n, accumulate), Mat::rows(a, m).t(), Mat::rows(b, n), (m, n, k), threads) }
}

/// What the sums of a product are added to.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'a> {
    Zero,
    /// What the result holds.
    Result,
    /// This row, to every row.
    Row(&'a [f32]),
    /// As many rows.
    Rows(&'a [f32]),
}

/// `y[M,N] = begin + a[M,K] · b[K,N]`, `b` packed, both f32 or both [`Pair`]s.
///
/// # Panics
/// If lengths do not fit.
pub fn packed<T: Scalar<Sum = f32>>(y: &mut [f32], a: &[T], b: Rows<'_, T>, begin: Begin<'_>, threads: Threads) {
    let (k, n) = (b.k(), b.n());
    let m = y.len() / n;
    let begins = match begin {
        Begin::Zero | Begin::Result => true,
        Begin::Row(row) => row.len() == n,
        Begin::Rows(rows) => rows.len() == m * n,
    };
    assert!(
        y.len() == m * n && a.len() == m * k && begins,
        "gemm: y {} a {} do not fit packed {k} × {n}, or {begin:?} does not",
        y.len(),
        a.len()
    );
    let target = Target::of(y, n, false);
    let from = match begin {
        Begin::Zero => None,
        Begin::Result => Some((target.y.cast_const(), n)),
        Begin::Row(row) => Some((row.as_ptr(), 0)),
        Begin::Rows(rows) => Some((rows.as_ptr(), n)),
    };
    // SAFETY: the assertion proved that each slice holds its whole matrix; `y` is borrowed mutably.
    unsafe { product(Target { from, ..target }, Mat::rows(a, k), Right::Packed(b), (m, n, k), threads) }
}

/// `y = alpha·(a·b)` on this thread, `b` packed; the `m` rows of `y` are `y_stride` apart, its columns adjacent.
///
/// # Safety
/// Every element addressed by (`y`, `y_stride`) and `a` must be inside a live allocation, and no other thread may touch
/// the addressed part of `y` during the call.
pub(super) unsafe fn raw_packed(y: *mut f32, y_stride: usize, a: Mat, b: Rows<'_>, m: usize, alpha: f32) {
    let target = Target { y, stride: y_stride, from: None, alpha };
    // SAFETY: the caller's promise.
    unsafe { product(target, a, Right::Packed(b), (m, b.n(), b.k()), Threads::One) }
}

impl Target<f32> {
    /// Rows `[_, n]` of their own, added to where that is said.
    pub(super) fn of(y: &mut [f32], n: usize, added: bool) -> Self {
        let y = y.as_mut_ptr();
        Self { y, stride: n, from: added.then_some((y.cast_const(), n)), alpha: 1.0 }
    }

    /// The same from another row on.
    ///
    /// # Safety
    /// That row must be inside of both.
    pub(super) unsafe fn below(self, rows: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.from.map(|(from, apart)| (from.add(rows * apart), apart));
            Self { y: self.y.add(rows * self.stride), from, ..self }
        }
    }

    /// Rows `stride` apart, which are overwritten.
    pub(super) fn strided(y: *mut f32, stride: usize) -> Self {
        Self { y, stride, from: None, alpha: 1.0 }
    }
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

/// `y = from + alpha·(a·b)`, all strided.
///
/// # Safety
/// Every element addressed by the target, `a` and `b` for these sizes must be inside a live allocation, and no other
/// thread may touch the addressed part of `y` during the call.
pub(super) unsafe fn raw(target: Target<f32>, a: Mat, b: Mat, sizes: (usize, usize, usize), threads: Threads) {
    // SAFETY: the caller's promise.
    unsafe { product(target, a, Right::Strided(b), sizes, threads) }
}
