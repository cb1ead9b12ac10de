//! Launches of `kernels/bilinear.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::BilinearKernel;
use crate::device::cuda::kernels::bilinear::WARPS;
use crate::device::cuda::{Gpu, View, kernels};
use crate::error::Result;
use crate::ops::maps;

/// Values per vector, and the sizes that all kernels take.
fn plan(x: View<bf16>, y: View<bf16>, shape: Shape) -> (usize, [u32; 6]) {
    shape.check(x.len(), y.len());
    let Shape { lead, from, to, c, column, columns, .. } = shape;
    (maps::width(&[c, column, columns], &[x, y]), maps::sizes([lead, from, to, c, column, columns]))
}

/// [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>, shape: Shape, add: bool) -> Result<()> {
    let (width, [lead, from, to, c, column, columns]) = plan(x, y, shape);
    let (at, add) = (maps::lines(shape.n * shape.to, shape.to), add.into());
    kernels::BilinearForward { y, x, lead, from, to, c, column, columns, add }.launch(gpu, at, width)
}

/// [`super::backward`].
pub fn backward(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, shape: Shape, add: bool) -> Result<()> {
    let (width, [lead, from, to, c, column, columns]) = plan(dx, dy, shape);
    // A window of so many lines that each warp of a block has some.
    let (kernel, at) = if shape.to >= WARPS * shape.from {
        (BilinearKernel::GatherX(width), maps::chunks(shape.n * shape.rows(), shape.c, width, 1))
    } else {
        (BilinearKernel::BackwardX(width), maps::lines(shape.n * shape.from, shape.from))
    };
    kernels::Bilinear { dx, dy, lead, from, to, c, column, columns, add: add.into() }.launch(gpu, at, kernel)
}
