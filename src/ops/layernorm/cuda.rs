//! Launches of `kernels/layernorm.cu`.

use half::bf16;

use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::reduce;

/// Rows per block of the forward, two per warp; with any width one per warp.
const FORWARD_ROWS: usize = 16;
const ANY_ROWS: usize = 8;
/// Most blocks, hence partial sums of the parameters' gradients, of the backward: about eight rounds on a large card.
const PIECES: usize = 1024;
/// Least rows of a block of the backward: four per warp.
const PIECE_ROWS: usize = 16;
/// Values of a row that a warp takes per vector, and most of them.
const WARP_VALUES: usize = 256;
const MOST_VECTORS: usize = 4;

/// `rows` of `d` values. Rows of `x` and of its gradient lie `stride` values apart (all tokens: `d`; class tokens alone: T·D), those
/// of everything else `d`.
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

    /// Vectors per lane of the kernels that keep a row in registers; `None` when the width or an address does not allow it.
    fn vectors(self, aligned: bool) -> Option<usize> {
        let fits = aligned && self.d.is_multiple_of(8) && self.stride.is_multiple_of(8);
        let vectors = self.d.div_ceil(WARP_VALUES);
        (fits && vectors <= MOST_VECTORS).then_some(vectors)
    }

    fn forward_plan(self, vectors: Option<usize>) -> Launch {
        Launch::new(self.rows.div_ceil(if vectors.is_some() { FORWARD_ROWS } else { ANY_ROWS }), 256)
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

/// The kernel for a number of vectors per lane.
macro_rules! by_vectors {
    ($vectors:expr, [$one:ident, $two:ident, $three:ident, $four:ident] $arguments:tt) => {
        match $vectors {
            1 => kernels::$one $arguments,
            2 => kernels::$two $arguments,
            3 => kernels::$three $arguments,
            _ => kernels::$four $arguments,
        }
    };
}

/// `y [rows, d]` and `stats [rows, 2]` from `x`, as [`super::forward`].
#[allow(clippy::too_many_arguments)]
pub fn forward(
    gpu: &Gpu,
    y: View<bf16>,
    stats: View<f32>,
    x: View<bf16>,
    gamma: View<f32>,
    beta: View<f32>,
    eps: f32,
    shape: Shape,
) -> Result<()> {
    let Shape { rows, d, stride } = shape;
    shape.check();
    assert!(x.len() >= shape.span() && y.len() == rows * d && stats.len() == 2 * rows, "layernorm: {shape:?}");
    assert!(gamma.len() == d && beta.len() == d, "layernorm: gamma {}, beta {}, {shape:?}", gamma.len(), beta.len());
    let aligned = [y.address(), x.address(), gamma.address(), beta.address()].iter().all(|a| a.is_multiple_of(16));
    let vectors = shape.vectors(aligned);
    let at = shape.forward_plan(vectors);
    let (rows, d, stride) = (rows as u32, d as u32, stride as u64);
    match vectors {
        Some(vectors) => by_vectors!(
            vectors,
            [
                layernorm_forward_rows1_bf16,
                layernorm_forward_rows2_bf16,
                layernorm_forward_rows3_bf16,
                layernorm_forward_rows4_bf16
            ](gpu, at, y, stats, x, gamma, beta, rows, d, stride, eps)
        ),
        None => kernels::layernorm_forward_any_bf16(gpu, at, y, stats, x, gamma, beta, rows, d, stride, eps),
    }
}

/// As [`forward`] of `sum = x + residual`, which is written too, rounded, and normalised as written. `residual` and `sum`: `[rows, d]`.
#[allow(clippy::too_many_arguments)]
pub fn forward_residual(
    gpu: &Gpu,
    y: View<bf16>,
    stats: View<f32>,
    sum: View<bf16>,
    x: View<bf16>,
    residual: View<bf16>,
    gamma: View<f32>,
    beta: View<f32>,
    eps: f32,
    shape: Shape,
) -> Result<()> {
    let Shape { rows, d, stride } = shape;
    shape.check();
    assert!(x.len() >= shape.span() && y.len() == rows * d && stats.len() == 2 * rows, "layernorm: {shape:?}");
    assert!(residual.len() == rows * d && sum.len() == rows * d, "layernorm: residual and sum of {shape:?}");
    assert!(gamma.len() == d && beta.len() == d, "layernorm: gamma {}, beta {}, {shape:?}", gamma.len(), beta.len());
    let addresses = [y, x, residual, sum].map(View::address).into_iter().chain([gamma, beta].map(View::address));
    let vectors = shape.vectors(addresses.into_iter().all(|a| a.is_multiple_of(16)));
    let at = shape.forward_plan(vectors);
    let (rows, d, stride) = (rows as u32, d as u32, stride as u64);
    match vectors {
        Some(vectors) => by_vectors!(
            vectors,
            [
                layernorm_residual_rows1_bf16,
                layernorm_residual_rows2_bf16,
                layernorm_residual_rows3_bf16,
                layernorm_residual_rows4_bf16
            ](gpu, at, y, stats, sum, x, residual, gamma, beta, rows, d, stride, eps)
        ),
        None => {
            kernels::layernorm_residual_any_bf16(gpu, at, y, stats, sum, x, residual, gamma, beta, rows, d, stride, eps)
        }
    }
}

/// f32 values that [`backward`] needs as scratch.
pub fn scratch_len(shape: Shape) -> usize {
    2 * shape.pieces() * shape.d
}

/// `dx`, laid out as `x`, is overwritten by `branch` plus the gradient through the norm; `dgamma` and `dbeta` are added to.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    gpu: &Gpu,
    dx: View<bf16>,
    branch: Branch,
    dgamma: View<f32>,
    dbeta: View<f32>,
    dy: View<bf16>,
    x: View<bf16>,
    stats: View<f32>,
    gamma: View<f32>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
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
    let bf16s = [dx, dy, x].map(View::address).into_iter().chain(around.map(View::address));
    let vectors = shape.vectors(bf16s.chain([gamma.address(), scratch.address()]).all(|a| a.is_multiple_of(16)));
    let (piece, pieces) = (shape.piece(), shape.pieces());
    let (n, width, stride, period) = (rows as u32, d as u32, stride as u64, period as u32);
    match vectors {
        Some(vectors) => by_vectors!(
            vectors,
            [
                layernorm_backward_rows1_bf16,
                layernorm_backward_rows2_bf16,
                layernorm_backward_rows3_bf16,
                layernorm_backward_rows4_bf16
            ](
                gpu,
                Launch::new(pieces, 128),
                dx,
                scratch,
                around,
                dy,
                x,
                stats,
                gamma,
                n,
                width,
                stride,
                period,
                piece as u32
            )
        )?,
        None => {
            let at = Launch::grid([d.div_ceil(128), pieces, 1], 128);
            kernels::layernorm_columns_any_bf16(gpu, at, scratch, dy, x, stats, n, width, stride, piece as u32)?;
            let at = Launch::new(rows.div_ceil(ANY_ROWS), 256);
            kernels::layernorm_backward_any_bf16(gpu, at, dx, around, dy, x, stats, gamma, n, width, stride, period)?;
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
            assert!(shape.forward_plan(Some(3)).grid[0] as usize * FORWARD_ROWS >= rows);
            assert!(shape.forward_plan(None).grid[0] as usize * ANY_ROWS >= rows);
        }
    }

    #[test]
    fn registers_hold_what_they_can() {
        let vectors = |d, stride, aligned| Shape { rows: 4, d, stride }.vectors(aligned);
        assert_eq!([8, 256, 264, 768, 1024].map(|d| vectors(d, d, true)), [1, 1, 2, 3, 4].map(Some));
        assert_eq!([vectors(1032, 1032, true), vectors(12, 12, true), vectors(64, 64, false)], [None; 3]);
        assert_eq!(vectors(64, 65 * 64 + 4, true), None);
    }
}
