//! Launches of `kernels/reduce.cu`.

use half::bf16;

use crate::device::cuda::kernels::reduce::PIECE;
use crate::device::cuda::{Element, Gpu, Half, KernelType, Launch, View, kernels};
use crate::error::Result;

/// `out0 += Σ partials[k][0]` and, with a second output, `out1 += Σ partials[k][1]`; `partials` is `[K, outputs,
/// cols]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn add_partials(gpu: &Gpu, out0: View<f32>, out1: Option<View<f32>>, partials: View<f32>) -> Result<()> {
    let (cols, outputs) = (out0.len(), 1 + usize::from(out1.is_some()));
    assert!(cols > 0 && out1.is_none_or(|out| out.len() == cols), "partial sums: {cols} columns");
    let count = partials.len() / (outputs * cols);
    assert!(count > 0 && partials.len() == count * outputs * cols, "partial sums: {} of {cols}", partials.len());
    let at = Launch::grid([cols.div_ceil(32), outputs, 1], 1024);
    kernels::ReducePartials { out0, out1, partials, count: count as u32, cols: cols as u32 }.launch(gpu, at)
}

/// f64 values that [`sum_of_squares`] of `len` values needs as scratch.
pub fn scratch_len(len: usize) -> usize {
    len.div_ceil(PIECE)
}

/// `total [1] = Σ x²`, infinite or NaN when a value is.
///
/// # Panics
/// If `x` is empty or `scratch` shorter than [`scratch_len`].
pub fn sum_of_squares(gpu: &Gpu, total: View<f64>, x: View<f32>, scratch: View<f64>) -> Result<()> {
    let pieces = scratch_len(x.len());
    assert!(pieces > 0 && scratch.len() >= pieces && total.len() == 1, "sum of squares of {} values", x.len());
    let (at, len) = (Launch::new(pieces, 256), x.len() as u64);
    kernels::ReduceSquares { partials: scratch, x, len }.launch(gpu, at, width(x))?;
    kernels::ReduceTotal { total, partials: scratch, count: pieces as u32 }.launch(gpu, Launch::new(1, 256))
}

/// Where a loss goes, `[1]`.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    to: View<f32>,
    factor: f32,
    add: bool,
}

impl Loss {
    /// The sum of the losses times `factor`; added to what is there where `add`.
    ///
    /// # Panics
    /// If `to` is not one value.
    pub fn new(to: View<f32>, factor: f32, add: bool) -> Self {
        assert_eq!(to.len(), 1, "the loss");
        Self { to, factor, add }
    }

    /// The same of a mean over `rows`.
    pub(in crate::ops) fn over(self, rows: usize) -> Self {
        Self { factor: self.factor / rows as f32, ..self }
    }

    /// Sums up `losses`.
    pub(in crate::ops) fn put(self, gpu: &Gpu, losses: View<f64>) -> Result<()> {
        let Self { to, factor, add } = self;
        let count = losses.len() as u32;
        kernels::ReduceLoss { loss: to, losses, count, factor, add: add.into() }.launch(gpu, Launch::new(1, 256))
    }
}

/// What [`find_not_finite`] can look through.
pub trait Number: KernelType {}
impl Number for f32 {}
impl Number for bf16 {}

/// Values per vector, one where the address does not allow vectors.
fn width<T: Element>(x: View<T>) -> usize {
    if x.is_aligned(16) { 16 / size_of::<T>() } else { 1 }
}

/// Sets `flag [1]`, which the caller cleared, to 1 when a value of `x` is not a finite number.
///
/// # Panics
/// If `flag` is not one value.
pub fn find_not_finite<T: Number>(gpu: &Gpu, flag: View<u32>, x: View<T>) -> Result<()> {
    assert_eq!(flag.len(), 1, "flag");
    if x.is_empty() {
        return Ok(());
    }
    let at = Launch::new(x.len().div_ceil(PIECE), 256);
    kernels::ReduceFinite { flag, x, len: x.len() as u64 }.launch(gpu, at, width(x))
}

/// `slot [1] = max(slot, max|x|)` of a slot that is not negative; a NaN or an infinity in `x` is what it then holds.
///
/// # Panics
/// If `slot` is not one value.
pub fn absmax<T: Half>(gpu: &Gpu, slot: View<f32>, x: View<T>) -> Result<()> {
    assert_eq!(slot.len(), 1, "slot");
    if x.is_empty() {
        return Ok(());
    }
    let (at, len) = (Launch::new(x.len().div_ceil(PIECE), 256), x.len() as u64);
    kernels::ReduceAbsmax { slot, x, len }.launch(gpu, at, width(x))
}
