//! Launches of `kernels/spread.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::spread::CHUNK;
use crate::device::cuda::{Gpu, View, kernels};
use crate::error::Result;
use crate::ops::{maps, reduce};

/// [`super::forward`].
pub fn forward(gpu: &Gpu, y: View<bf16>, x: View<bf16>, bias: Option<View<f32>>, shape: Shape) -> Result<()> {
    shape.check(x.len(), y.len(), bias.map(View::len));
    let width = if bias.is_none_or(|bias| bias.is_aligned(16)) { maps::width(&[shape.c], &[x, y]) } else { 1 };
    let [side, c] = maps::sizes([shape.side, shape.c]);
    let line = 2 * shape.side;
    kernels::SpreadForward { y, x, bias, side, c }.launch(gpu, maps::lines(shape.n * line, line), width)
}

/// f32 values that [`backward`] needs as scratch for the gradient of a bias.
pub fn scratch_len(shape: Shape) -> usize {
    pixels(shape).div_ceil(CHUNK) * shape.c
}

/// Pixels behind.
fn pixels(Shape { n, side, .. }: Shape) -> usize {
    4 * n * side * side
}

/// [`super::backward`].
pub fn backward(
    gpu: &Gpu,
    dx: View<bf16>,
    dbias: Option<View<f32>>,
    dy: View<bf16>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    shape.check(dx.len(), dy.len(), dbias.map(View::len));
    let (count, len) = (pixels(shape), scratch_len(shape));
    assert!(count < 1 << 31, "spread: {shape:?} is too large");
    assert!(dbias.is_none() || scratch.len() >= len, "spread: scratch {} of {shape:?}", scratch.len());
    let partials = dbias.map(|_| scratch.slice(0..len));
    let width = if partials.is_none_or(|sums| sums.is_aligned(16)) { maps::width(&[shape.c], &[dx, dy]) } else { 1 };
    let at = maps::chunks(count.div_ceil(CHUNK), shape.c, width, 1);
    let (pixels, [side, c]) = (count as u32, maps::sizes([shape.side, shape.c]));
    kernels::SpreadBackward { dx, partials, dy, pixels, side, c }.launch(gpu, at, width)?;
    match (dbias, partials) {
        (Some(dbias), Some(partials)) => reduce::cuda::add_partials(gpu, dbias, None, partials),
        _ => Ok(()),
    }
}
