//! 3×3 convolution with padding 1, stride 1 or 2, of NHWC images, optionally of their nearest-neighbour enlargement,
//! whose image never exists: an index map leads to the pixels of the input.
//!
//! In f32 with stride 1, enough channels and pixels it is Winograd's (`winograd`), which multiplies a quarter as
//! often; maps of 2×2 pixels are multiplied as a whole (`whole`); all else is an implicit GEMM (`direct`). Which
//! one, the sizes of one image decide, so that it has the same bits in every batch.
//!
//! FLOPs: 2·N·H·W·9·C·Cout. Bytes: x, y and the weights once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;
mod direct;
mod geometry;
mod shape;
mod whole;
mod winograd;

use super::gemm::Operands;
use super::gemm::Threads;
use super::packed::{First, Packed, Start};
pub(super) use direct::copy;
use geometry::Geometry;
pub use shape::Shape;
use winograd::Winograd;

/// Weights of a convolution to N channels, as the ways that may compute it read them, and the bias `[N]`, if there is
/// one.
#[derive(Clone, Debug)]
pub struct Weights {
    pub channels: usize,
    pub outputs: usize,
    bias: Option<Vec<f32>>,
    direct: Packed,
    winograd: Option<Winograd>,
    whole: Option<Packed>,
}

impl Weights {
    /// From PyTorch's order `[N, C, 3, 3]` of `sizes` (C, N), for convolutions of this stride.
    pub fn new(w: &[f32], bias: Option<Vec<f32>>, sizes: (usize, usize), stride: usize, operands: Operands) -> Self {
        let (channels, outputs) = sizes;
        let fits = bias.as_ref().is_none_or(|bias| bias.len() == outputs);
        assert!(w.len() == 9 * outputs * channels && fits, "conv: {} values for {outputs} × {channels}", w.len());
        Self {
            channels,
            outputs,
            bias,
            direct: Packed::from_conv(w, None, sizes, 9, direct::operands(channels, operands)),
            winograd: winograd::is_for(sizes, stride, operands).then(|| Winograd::new(w, channels, outputs)),
            whole: whole::is_for(sizes, stride).then(|| whole::packed(w, sizes, operands)),
        }
    }

    /// Bytes that are held for this many channels (C, N), without the bias.
    pub fn bytes(sizes: (usize, usize), stride: usize, operands: Operands) -> usize {
        let winograd = if winograd::is_for(sizes, stride, operands) { 4 * winograd::PLACES } else { 0 };
        let whole = if whole::is_for(sizes, stride) { operands.bytes() * whole::PLACES } else { 0 };
        (9 * direct::operands(sizes.0, operands).bytes() + winograd + whole) * sizes.0 * sizes.1
    }
}

/// `y [N, H', W', Cout] = start + conv3×3(x [N, H, W, C])`.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], x: &[f32], w: &Weights, start: Start<'_>, shape: Shape, threads: Threads) {
    let Weights { channels, outputs, bias, direct, winograd, whole } = w;
    assert!(
        y.len() == shape.rows() * outputs
            && x.len() == shape.n * shape.height * shape.width * shape.channels
            && shape.channels == *channels
            && matches!(shape.stride, 1 | 2),
        "conv: x {} y {} w {channels} → {outputs} do not fit {shape:?}",
        x.len(),
        y.len()
    );
    let (geometry, first) = (Geometry::new(shape), First { bias: bias.as_deref(), start, outputs: *outputs });
    match (winograd, whole) {
        (Some(w), _) if winograd::fills(shape) => winograd::forward(y, x, w, first, &geometry, threads),
        (_, Some(w)) if whole::fits(shape) => whole::forward(y, x, w, first, threads),
        _ => direct::forward(y, x, direct, first, &geometry, threads),
    }
}
