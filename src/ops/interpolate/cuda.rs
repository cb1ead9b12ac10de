//! Launches of `kernels/interpolate.cu`.

use super::Shape;
use crate::device::cuda::kernels::interpolate::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

fn check(before: View<f32>, behind: View<f32>, shape: Shape) -> [u32; 3] {
    shape.check(before.len(), behind.len());
    let Shape { from, to, d } = shape;
    assert!(from.max(to) < 1 << 12 && d < 1 << 24, "interpolate: {shape:?}");
    [from, to, d].map(|n| n as u32)
}

/// A block for [`THREADS`] values of each row.
fn plan(side: usize, shape: Shape) -> Launch {
    Launch::grid([1 + side * side, shape.d.div_ceil(THREADS), 1], THREADS as u32)
}

/// [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<f32>, pos: View<f32>, shape: Shape) -> Result<()> {
    let [from, to, d] = check(pos, y, shape);
    kernels::InterpolateForward { y, pos, from, to, d }.launch(gpu, plan(shape.to, shape))
}

/// [`super::backward`].
pub fn backward(gpu: &Gpu, dpos: View<f32>, dy: View<f32>, shape: Shape) -> Result<()> {
    let [from, to, d] = check(dpos, dy, shape);
    kernels::InterpolateBackward { dpos, dy, from, to, d }.launch(gpu, plan(shape.from, shape))
}
