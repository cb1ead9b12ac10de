//! Launches of `kernels/l2norm.cu`.

use half::bf16;

use crate::device::cuda::kernels::l2norm::ROWS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// Where a result goes: as f32, as bf16, or both. The loss compares bf16 rows; the products behind a gradient take
/// bf16.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outputs {
    pub f32: Option<View<f32>>,
    pub bf16: Option<View<bf16>>,
}

impl Outputs {
    fn check(self, len: usize) {
        let fits = self.f32.is_none_or(|y| y.len() == len) && self.bf16.is_none_or(|y| y.len() == len);
        assert!(fits && (self.f32.is_some() || self.bf16.is_some()), "l2norm: {self:?} for {len} values");
    }

    fn aligned(self) -> bool {
        self.f32.is_none_or(|y| y.is_aligned(16)) && self.bf16.is_none_or(|y| y.is_aligned(8))
    }
}

/// `(rows, d)`.
fn sizes(len: usize, rows: usize) -> (usize, usize) {
    assert!(rows > 0 && len > 0 && len.is_multiple_of(rows), "l2norm: {len} values, {rows} rows");
    (rows, len / rows)
}

/// `y = x / max(‖x‖, eps)` by rows; `norms [rows]` keeps ‖x‖.
pub fn forward(gpu: &Gpu, y: Outputs, norms: View<f32>, x: View<f32>, eps: f32) -> Result<()> {
    let (rows, d) = sizes(x.len(), norms.len());
    y.check(x.len());
    let at = Launch::new(rows.div_ceil(ROWS), 32 * ROWS as u32);
    let vectors = d.is_multiple_of(4) && y.aligned() && x.is_aligned(16);
    let (rows, d) = (rows as u32, d as u32);
    kernels::L2normForward { y: y.f32, rounded: y.bf16, norms, x, rows, d, eps }.launch(
        gpu,
        at,
        if vectors { 4 } else { 1 },
    )
}

/// `dx` (overwritten) from `dy`, the unit rows `y` and the lengths before.
pub fn backward(gpu: &Gpu, dx: Outputs, dy: View<f32>, y: View<f32>, norms: View<f32>, eps: f32) -> Result<()> {
    let (rows, d) = sizes(y.len(), norms.len());
    assert_eq!(dy.len(), y.len(), "l2norm: dy");
    dx.check(y.len());
    let at = Launch::new(rows.div_ceil(ROWS), 32 * ROWS as u32);
    let vectors = d.is_multiple_of(4) && dx.aligned() && dy.is_aligned(16) && y.is_aligned(16);
    let (rows, d) = (rows as u32, d as u32);
    kernels::L2normBackward { dx: dx.f32, rounded: dx.bf16, dy, y, norms, rows, d, eps }.launch(
        gpu,
        at,
        if vectors { 4 } else { 1 },
    )
}
