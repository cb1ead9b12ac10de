//! Launches of `kernels/max_pool.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::{Gpu, View, kernels};
use crate::error::Result;
use crate::ops::maps;

/// [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>, shape: Shape) -> Result<()> {
    shape.check(x.len(), y.len());
    let (width, half) = (maps::width(&[shape.c], &[x, y]), shape.side / 2);
    let [side, c] = maps::sizes([shape.side, shape.c]);
    kernels::MaxPoolForward { y, x, side, c }.launch(gpu, maps::lines(shape.n * half, half), width)
}

/// [`super::backward`].
pub fn backward(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, x: View<bf16>, shape: Shape) -> Result<()> {
    shape.check(dx.len(), dy.len());
    assert_eq!(x.len(), dx.len(), "max pool: x of {shape:?}");
    let (width, windows) = (maps::width(&[shape.c], &[dx, dy, x]), shape.side.div_ceil(2));
    let [side, c] = maps::sizes([shape.side, shape.c]);
    kernels::MaxPoolBackward { dx, dy, x, side, c }.launch(gpu, maps::lines(shape.n * windows, windows), width)
}
