//! Launches of `kernels/drop_channels.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::drop_channels::CHUNK;
use crate::device::cuda::{Gpu, View, kernels};
use crate::error::Result;
use crate::ops::maps;

/// [`super::apply`].
pub fn apply(gpu: &Gpu, x: View<bf16>, kept: View<u32>, scale: f32, shape: Shape) -> Result<()> {
    shape.check(x.len(), kept.len());
    assert!(shape.pixels < 1 << 31, "drop channels: {shape:?} is too large");
    let width = maps::width(&[shape.c], &[x]);
    let at = maps::chunks(shape.pixels.div_ceil(CHUNK), shape.c, width, shape.n);
    let (pixels, [c]) = (shape.pixels as u32, maps::sizes([shape.c]));
    kernels::DropChannelsApply { x, kept, scale, pixels, c }.launch(gpu, at, width)
}
