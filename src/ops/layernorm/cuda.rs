//! Launches of `kernels/layernorm.cu` and `kernels/layernorm_sm89.cu`.

use half::bf16;

use crate::device::cuda::kernels::layernorm::WARPS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::reduce;

/// Most blocks, hence partial sums of the parameters' gradients, of the backward: about eight rounds on a large card.
const PIECES: usize = 1024;
/// Least rows of a block of the backward: four per warp.
const PIECE_ROWS: usize = 16;
/// Values of a row that a warp takes at once, forward and backward, and the widest row that stays in registers: in
/// training, in inference.
const FORWARD_VALUES: usize = 128;
const BACKWARD_VALUES: usize = 256;
const WIDEST: usize = 1024;
const WIDEST_INFERENCE: usize = 1280;

/// `rows` of `d` values. Rows of `x` and of its gradient lie `stride` values apart (all tokens: `d`; class tokens
/// alone: T·D), those of everything else `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub d: usize,
    pub stride: usize,
}

impl Shape {
    /// Rows without gaps.
    pub fn dense(rows: usize, d: usize) -> Self {
        Self { rows, d, stride: d }
    }

    /// Values from the first of the first row to the last of the last.
    pub fn span(self) -> usize {
        (self.rows - 1) * self.stride + self.d
    }

    fn check(self) {
        let Self { rows, d, stride } = self;
        let fits = rows > 0 && d > 0 && stride >= d && rows.max(d) < 1 << 31;
        assert!(fits, "layernorm: {self:?}");
    }

    /// Rows of one block of the backward.
    fn piece(self) -> usize {
        self.rows.div_ceil(PIECES).max(PIECE_ROWS)
    }

    fn pieces(self) -> usize {
        self.rows.div_ceil(self.piece())
    }

    /// Vectors per lane of the kernels that keep a row of up to `widest` values in registers, `values` of which fill a
    /// warp; `None` when the width or an address does not allow it.
    fn vectors(self, values: usize, widest: usize, addresses: &[u64]) -> Option<usize> {
        let aligned = self.d.is_multiple_of(8) && self.stride.is_multiple_of(8);
        let fits = aligned && self.d <= widest && addresses.iter().all(|a| a.is_multiple_of(16));
        fits.then_some(self.d.div_ceil(values))
    }

    /// One row per warp.
    fn plan(self) -> Launch {
        Launch::new(self.rows.div_ceil(WARPS), 32 * WARPS as u32)
    }
}

/// Gain and shift, `[d]` each, and what is added to the variance.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    pub gamma: View<f32>,
    pub beta: View<f32>,
    pub eps: f32,
}

impl Affine {
    fn check(self, shape: Shape) {
        let (gamma, beta) = (self.gamma.len(), self.beta.len());
        assert!(gamma == shape.d && beta == shape.d, "layernorm: gamma {gamma}, beta {beta}, {shape:?}");
    }
}

/// The gradient that reaches `x` around the norm, added to the one through it.
#[derive(Clone, Copy, Debug)]
pub enum Branch {
    /// Nothing read `x` but the norm.
    None,
    /// `[rows, d]`; may be the destination itself.
    Every(View<bf16>),
    /// `[rows / period, d]`, for rows 0, period, 2·period, … (the class tokens).
    OneIn(usize, View<bf16>),
}

mod infer;

pub use infer::{infer, infer_e4m3};

/// `y [rows, d]` and `stats [rows, 2]` from `x`, as [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<bf16>, stats: View<f32>, x: View<bf16>, affine: Affine, shape: Shape) -> Result<()> {
    let (Shape { rows, d, stride }, Affine { gamma, beta, eps }) = (shape, affine);
    shape.check();
    affine.check(shape);
    assert!(x.len() >= shape.span() && y.len() == rows * d && stats.len() == 2 * rows, "layernorm: {shape:?}");
    let addresses = [y.address(), x.address(), gamma.address(), beta.address()];
    let (vectors, at) = (shape.vectors(FORWARD_VALUES, WIDEST, &addresses), shape.plan());
    let (rows, d, stride) = (rows as u32, d as u32, stride as u64);
    let kernel = match vectors {
        Some(vectors) => kernels::LayernormForwardKernel::Rows(vectors),
        None => kernels::LayernormForwardKernel::Any,
    };
    kernels::LayernormForward { y, stats, x, gamma, beta, rows, d, stride, eps }.launch(gpu, at, kernel)
}

/// f32 values that [`backward`] needs as scratch.
pub fn scratch_len(shape: Shape) -> usize {
    2 * shape.pieces() * shape.d
}

/// What the launches of a backward read and write.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    /// Laid out as `x`; overwritten by `branch` plus the gradient through the norm.
    pub dx: View<bf16>,
    pub branch: Branch,
    /// Added to.
    pub dgamma: View<f32>,
    pub dbeta: View<f32>,
    pub dy: View<bf16>,
    pub x: View<bf16>,
    /// What [`forward`] kept.
    pub stats: View<f32>,
    pub gamma: View<f32>,
    /// Of [`scratch_len`] values.
    pub scratch: View<f32>,
}

/// Gradients of [`forward`].
pub fn backward(gpu: &Gpu, of: Backward, shape: Shape) -> Result<()> {
    let Backward { dx, branch, dgamma, dbeta, dy, x, stats, gamma, scratch } = of;
    let Shape { rows, d, stride } = shape;
    shape.check();
    assert!(x.len() >= shape.span() && dx.len() >= shape.span() && dy.len() == rows * d, "layernorm: {shape:?}");
    assert!(stats.len() == 2 * rows && scratch.len() >= scratch_len(shape), "layernorm: stats, scratch of {shape:?}");
    assert!(gamma.len() == d && dgamma.len() == d && dbeta.len() == d, "layernorm: parameters of {shape:?}");
    let (around, period) = match branch {
        Branch::None => (None, 1),
        Branch::Every(around) => (Some(around), 1),
        Branch::OneIn(period, around) => (Some(around), period),
    };
    if let Some(around) = around {
        assert!(period > 0 && around.len() == rows.div_ceil(period) * d, "layernorm: branch of {shape:?}");
        assert!(around.address() != dx.address() || (period, stride) == (1, d), "layernorm: branch over its own rows");
    }
    let addresses =
        [dx.address(), dy.address(), x.address(), around.map_or(0, View::address), gamma.address(), scratch.address()];
    let vectors = shape.vectors(BACKWARD_VALUES, WIDEST, &addresses);
    let (piece, pieces) = (shape.piece(), shape.pieces());
    let across = d.div_ceil(128);
    let (rows, d, stride, period) = (rows as u32, d as u32, stride as u64, period as u32);
    let (partials, residual, rows_per_block) = (scratch, around, piece as u32);
    match vectors {
        Some(vectors) => kernels::LayernormBackward {
            dx,
            partials,
            residual,
            dy,
            x,
            stats,
            gamma,
            rows,
            d,
            stride,
            period,
            rows_per_block,
        }
        .launch(gpu, Launch::new(pieces, 128), vectors)?,
        None => {
            let at = Launch::grid([across, pieces, 1], 128);
            kernels::LayernormColumnsAny { partials, dy, x, stats, rows, d, stride, rows_per_block }.launch(gpu, at)?;
            kernels::LayernormBackwardAny { dx, residual, dy, x, stats, gamma, rows, d, stride, period }
                .launch(gpu, shape.plan())?;
        }
    }
    reduce::cuda::add_partials(gpu, dgamma, Some(dbeta), scratch.slice(0..scratch_len(shape)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_one_block() {
        for rows in [1, 15, 16, 17, 1000, 16 * 1024, 16 * 1024 + 1, 100_864] {
            let shape = Shape::dense(rows, 768);
            assert!(shape.pieces() <= PIECES && (shape.pieces() - 1) * shape.piece() < rows, "{rows}");
            assert!(shape.pieces() * shape.piece() >= rows, "{rows}");
            assert_eq!(shape.plan().grid[0] as usize, rows.div_ceil(WARPS));
        }
    }

    #[test]
    fn registers_hold_what_they_can() {
        let vectors =
            |d, stride, values, address| Shape { rows: 4, d, stride }.vectors(values, WIDEST, &[256, address]);
        let widths = [8, 128, 136, 256, 384, 768, 1024];
        assert_eq!(widths.map(|d| vectors(d, d, FORWARD_VALUES, 16)), [1, 1, 2, 2, 3, 6, 8].map(Some));
        assert_eq!(widths.map(|d| vectors(d, d, BACKWARD_VALUES, 16)), [1, 1, 1, 1, 2, 3, 4].map(Some));
        assert_eq!([vectors(1032, 1032, 128, 16), vectors(12, 12, 128, 16), vectors(64, 64, 128, 8)], [None; 3]);
        assert_eq!(vectors(64, 65 * 64 + 4, 128, 16), None);
        let inference = |d| Shape::dense(4, d).vectors(FORWARD_VALUES, WIDEST_INFERENCE, &[256]);
        assert_eq!([320, 640, 768, 1280, 1288].map(inference), [Some(3), Some(5), Some(6), Some(10), None]);
    }
}
