//! Launches of `kernels/patch_loss.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::patch_loss::WARPS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::augment::Scales;
use crate::ops::cross_entropy;

/// [`super::loss`] of bytes, which are normalised by ImageNet's mean and standard deviation.
pub fn loss(
    gpu: &Gpu,
    dpredictions: View<bf16>,
    losses: View<f32>,
    predictions: View<bf16>,
    images: View<u8>,
    rows: View<u32>,
    shape: Shape,
) -> Result<()> {
    let Shape { n, of, side, patch, kept } = shape;
    let (count, values) = (n * shape.rows(), n * shape.rows() * shape.patch_len());
    let fits =
        (1..=of).contains(&n) && patch > 0 && side.is_multiple_of(patch) && kept < shape.patches() && count < 1 << 31;
    assert!(fits && images.len() == n * shape.image_len(), "patch loss: {shape:?}");
    assert!(predictions.len() == values && dpredictions.len() == values, "patch loss: predictions of {shape:?}");
    assert!(losses.len() == count && rows.len() == count, "patch loss: rows of {shape:?}");
    let at = Launch::new(count.div_ceil(WARPS), 32 * WARPS as u32);
    let Scales { scale: [scale0, scale1, scale2], shift: [shift0, shift1, shift2] } = Scales::default();
    let (share, slope) = (shape.share(), shape.slope());
    let [n, side, patch, kept] = [n, side, patch, kept].map(|n| n as u32);
    kernels::PatchLoss {
        dpredictions,
        losses,
        predictions,
        images,
        rows,
        n,
        side,
        patch,
        kept,
        share,
        slope,
        scale0,
        scale1,
        scale2,
        shift0,
        shift1,
        shift2,
    }
    .launch(gpu, at)
}

/// [`super::mean`].
pub fn mean(gpu: &Gpu, total: View<f32>, losses: View<f32>) -> Result<()> {
    cross_entropy::cuda::means(gpu, total, losses)
}
