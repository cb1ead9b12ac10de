//! Launches of `kernels/token_mean.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::token_mean::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// Values per thread, and threads for the columns of every image.
fn plan(x: View<bf16>, y: View<bf16>, shape: Shape) -> (usize, Launch) {
    shape.check(x.len(), y.len());
    let Shape { n, tokens, d } = shape;
    assert!(n < 1 << 16 && tokens < 1 << 31 && d < 1 << 31, "token mean: {shape:?} is too large");
    let width = if d.is_multiple_of(8) && x.is_aligned(16) && y.is_aligned(16) { 8 } else { 1 };
    (width, Launch::grid([(d / width).div_ceil(THREADS), n, 1], THREADS as u32))
}

/// [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>, shape: Shape) -> Result<()> {
    let (width, at) = plan(x, y, shape);
    let [tokens, d] = [shape.tokens, shape.d].map(|n| n as u32);
    kernels::TokenMeanForward { y, x, tokens, d, share: shape.share() }.launch(gpu, at, width)
}

/// [`super::backward`].
pub fn backward(gpu: &Gpu, dx: View<bf16>, dy: View<bf16>, shape: Shape) -> Result<()> {
    let (width, at) = plan(dx, dy, shape);
    let [tokens, d] = [shape.tokens, shape.d].map(|n| n as u32);
    kernels::TokenMeanBackward { dx, dy, tokens, d, share: shape.share() }.launch(gpu, at, width)
}
