//! Launches of `kernels/drop_path.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::drop_path::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// A thread for as many values as it takes at once; and how many these are.
fn plan(shape: Shape, stride: usize, views: &[View<bf16>]) -> (Launch, usize) {
    let aligned = views.iter().all(|view| view.is_aligned(16)) && (shape.d | stride).is_multiple_of(8);
    let width = if aligned { 8 } else { 1 };
    (Launch::new((shape.len() / width).div_ceil(THREADS), THREADS as u32), width)
}

fn check(values: usize, kept: View<u32>, shape: Shape) -> [u32; 3] {
    let Shape { n, rows, d } = shape;
    let fits = !shape.is_empty() && shape.len() / 8 < 1 << 31 && n * rows < 1 << 31 && values == shape.len();
    assert!(fits && kept.len() == n, "drop path: {values} values, {} of {shape:?}", kept.len());
    [n, rows, d].map(|n| n as u32)
}

/// [`super::forward`].
pub fn forward(
    gpu: &Gpu,
    y: View<bf16>,
    (residual, stride): (View<bf16>, usize),
    kept: View<u32>,
    scale: f32,
    shape: Shape,
) -> Result<()> {
    let [n, rows, d] = check(y.len(), kept, shape);
    let span = (shape.n * shape.rows - 1) * stride + shape.d;
    assert!(residual.len() >= span && stride < 1 << 31, "drop path: residual {} by {stride}", residual.len());
    let (at, width) = plan(shape, stride, &[y, residual]);
    kernels::DropPath { y, residual, kept, scale, n, rows, d, stride: stride as u32 }.launch(gpu, at, width)
}

/// [`super::backward`].
pub fn backward(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, kept: View<u32>, scale: f32, shape: Shape) -> Result<()> {
    let [n, rows, d] = check(dx.len(), kept, shape);
    assert!(dy.len() == dx.len(), "drop path: {} from {}", dx.len(), dy.len());
    let (at, width) = plan(shape, shape.d, &[dx, dy]);
    kernels::DropPathBackward { dx, dy, kept, scale, n, rows, d }.launch(gpu, at, width)
}
