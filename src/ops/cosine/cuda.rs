//! Launches of `kernels/cosine.cu`.

use super::Shape;
use crate::device::cuda::kernels::cosine::ROWS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::reduce::cuda::Loss;

/// Length of the scratch memory: an f64 per block.
pub fn scratch_len(shape: Shape) -> usize {
    2 * shape.rows.div_ceil(ROWS)
}

/// `loss [1]` and `drows`, both overwritten; `scratch` holds [`scratch_len`] values from a multiple of 8 bytes on.
pub fn forward(
    gpu: &Gpu,
    loss: View<f32>,
    drows: View<f32>,
    [rows, keys]: [View<f32>; 2],
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    shape.check([drows.len(), rows.len(), keys.len()]);
    assert!(loss.len() == 1 && scratch.len() >= scratch_len(shape) && scratch.is_aligned(8), "cosine: {shape:?}");
    assert!(shape.rows * shape.dim < 1 << 40 && shape.rows < 1 << 30, "cosine: {shape:?} is too large");
    let blocks = shape.rows.div_ceil(ROWS);
    let losses = scratch.slice(0..scratch_len(shape)).cast::<f64>();
    let vectors = shape.dim.is_multiple_of(4) && [drows, rows, keys].iter().all(|view| view.is_aligned(16));
    let [count, d, shift] = [shape.rows, shape.dim, shape.shift].map(|n| n as u32);
    kernels::CosineRows { losses, dx: drows, x: rows, y: keys, rows: count, d, shift, scale: shape.scale() }.launch(
        gpu,
        Launch::new(blocks, 32 * ROWS as u32),
        if vectors { 4 } else { 1 },
    )?;
    Loss::new(loss, shape.factor, false).over(shape.rows).put(gpu, losses)
}
