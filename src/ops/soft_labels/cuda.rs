//! Launches of `kernels/soft_labels.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::soft_labels::ROWS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// [`super::Labels`] in device memory; only the host can tell that labels are below the number of classes.
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    pub both: [View<u32>; 2],
    pub shares: View<u32>,
}

/// [`super::forward`].
pub fn forward(gpu: &Gpu, dx: View<bf16>, losses: View<f32>, x: View<f32>, labels: Labels, shape: Shape) -> Result<()> {
    let Labels { both: [first, second], shares } = labels;
    shape.check([dx.len(), x.len()], [losses.len(), first.len(), second.len(), shares.len()]);
    assert!(shape.rows < 1 << 31 && shape.classes < 1 << 31, "soft labels: {shape:?} is too large");
    let ([even, own], scale) = (shape.parts(), 1.0 / shape.of as f32);
    let at = Launch::new(shape.rows.div_ceil(ROWS), 32 * ROWS as u32);
    let [rows, classes] = [shape.rows, shape.classes].map(|n| n as u32);
    kernels::SoftLabelsForward { dx, losses, x, first, second, shares, rows, classes, even, own, scale }.launch(gpu, at)
}
