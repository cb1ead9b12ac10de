//! Launches of `kernels/grid_pool.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::{Gpu, View, kernels};
use crate::error::Result;
use crate::ops::maps;

/// Values per vector, side, bins and channels.
fn plan(x: View<bf16>, y: View<bf16>, shape: Shape) -> (usize, [u32; 3]) {
    shape.check(x.len(), y.len());
    let Shape { side, bins, c, .. } = shape;
    (maps::width(&[c], &[x, y]), maps::sizes([side, bins, c]))
}

/// [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>, shape: Shape) -> Result<()> {
    let (width, [side, bins, c]) = plan(x, y, shape);
    let at = maps::chunks(shape.n * shape.bins * shape.bins, shape.c, width, 1);
    kernels::GridPoolForward { y, x, side, bins, c }.launch(gpu, at, width)
}

/// [`super::backward`].
pub fn backward(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, shape: Shape) -> Result<()> {
    let (width, [side, bins, c]) = plan(dx, dy, shape);
    let at = maps::lines(shape.n * shape.side, shape.side);
    kernels::GridPoolBackward { dx, dy, side, bins, c }.launch(gpu, at, width)
}
