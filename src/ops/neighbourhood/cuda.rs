//! Launches of `kernels/neighbourhood.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::{Gpu, View, kernels};
use crate::error::Result;
use crate::ops::maps;

/// Values per vector, side and channels.
fn plan(map: View<bf16>, rows: View<bf16>, shape: Shape) -> (usize, [u32; 2]) {
    shape.check(map.len(), rows.len());
    (maps::width(&[shape.c], &[map, rows]), maps::sizes([shape.side, shape.c]))
}

/// [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>, shape: Shape) -> Result<()> {
    let (width, [side, c]) = plan(x, y, shape);
    let at = maps::lines(shape.n * shape.side, shape.side);
    kernels::NeighbourhoodForward { y, x, side, c }.launch(gpu, at, width)
}

/// [`super::backward`].
pub fn backward(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, shape: Shape) -> Result<()> {
    let (width, [side, c]) = plan(dx, dy, shape);
    let at = maps::lines(shape.n * shape.side, shape.side);
    kernels::NeighbourhoodBackward { dx, dy, side, c }.launch(gpu, at, width)
}
