//! Launches of `kernels/pixel_loss.cu`.

use half::bf16;

use super::{Loss, Shape};
use crate::device::cuda::kernels::pixel_loss::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::maps;

/// [`super::forward`].
pub fn forward(
    gpu: &Gpu,
    losses: View<f32>,
    lse: View<f32>,
    logits: View<f32>,
    labels: View<u32>,
    of: Loss,
) -> Result<()> {
    let Loss { shape, weight, add } = of;
    shape.check([logits.len(); 2], [lse.len(), labels.len()], losses.len());
    let (at, scale) = (Launch::new(shape.n * shape.to, THREADS as u32), weight / shape.to as f32);
    let ([from, to, classes], add) = (sizes(shape), add.into());
    kernels::PixelLossForward { losses, lse, logits, labels, from, to, classes, scale, add }.launch(gpu, at)
}

/// [`super::backward`].
pub fn backward(
    gpu: &Gpu,
    d: View<bf16>,
    logits: View<f32>,
    lse: View<f32>,
    labels: View<u32>,
    of: Loss,
) -> Result<()> {
    let Loss { shape, weight, .. } = of;
    shape.check([d.len(), logits.len()], [lse.len(), labels.len()], shape.n * shape.to);
    let pieces = (shape.from * shape.classes).div_ceil(THREADS);
    let at = Launch::grid([shape.n * shape.from, pieces, 1], THREADS as u32);
    let ([from, to, classes], slope) = (sizes(shape), shape.slope(weight));
    kernels::PixelLossBackward { d, logits, lse, labels, from, to, classes, slope }.launch(gpu, at)
}

fn sizes(shape: Shape) -> [u32; 3] {
    maps::sizes([shape.from, shape.to, shape.classes])
}
