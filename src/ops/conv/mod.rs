//! 3×3 convolution with padding 1, stride 1 or 2, of NHWC images, optionally of their nearest-neighbour enlargement,
//! whose image never exists: an index map leads to the pixels of the input.
//!
//! With stride 1, enough channels and pixels it is Winograd's ([`winograd`]), which multiplies a quarter as often; else
//! an implicit GEMM ([`direct`]). Which one, the sizes of one image decide, so that it has the same bits in every batch.
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
mod winograd;

use super::gemm::Threads;
use super::packed::{Packed, Start};
pub(super) use direct::copy;
use geometry::Geometry;
use winograd::Winograd;

/// Sizes of the input, and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    /// Input channels C.
    pub channels: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Height and width to which the input is enlarged first (source index = ⌊i·in/out⌋).
    pub enlarge: Option<(usize, usize)>,
}

impl Shape {
    /// Stride 1, no enlargement.
    pub fn same(n: usize, height: usize, width: usize, channels: usize) -> Self {
        Self { n, height, width, channels, stride: 1, enlarge: None }
    }

    /// Height and width of the convolved image before striding.
    fn canvas(self) -> (usize, usize) {
        self.enlarge.unwrap_or((self.height, self.width))
    }

    /// Height and width of the output.
    pub fn output(self) -> (usize, usize) {
        let (height, width) = self.canvas();
        (height.div_ceil(self.stride), width.div_ceil(self.stride))
    }

    /// Output pixels of all images.
    pub fn rows(self) -> usize {
        let (height, width) = self.output();
        self.n * height * width
    }

    /// FLOPs of a convolution to `outputs` channels.
    pub fn flops(self, outputs: usize) -> f64 {
        2.0 * self.rows() as f64 * 9.0 * self.channels as f64 * outputs as f64
    }

    /// Bytes moved at least.
    pub fn bytes(self, outputs: usize) -> f64 {
        let input = self.n * self.height * self.width * self.channels;
        4.0 * (input + self.rows() * outputs + 9 * self.channels * outputs) as f64
    }
}

/// Weights of a convolution to N channels, as the ways that may compute it read them, and the bias `[N]`, if there is one.
#[derive(Clone, Debug)]
pub struct Weights {
    pub channels: usize,
    pub outputs: usize,
    bias: Option<Vec<f32>>,
    direct: Packed,
    winograd: Option<Winograd>,
}

impl Weights {
    /// From PyTorch's order `[N, C, 3, 3]`, for convolutions of this stride.
    pub fn new(w: &[f32], bias: Option<Vec<f32>>, outputs: usize, channels: usize, stride: usize) -> Self {
        let fits = bias.as_ref().is_none_or(|bias| bias.len() == outputs);
        assert!(w.len() == 9 * outputs * channels && fits, "conv: {} values for {outputs} × {channels}", w.len());
        Self {
            channels,
            outputs,
            bias,
            direct: Packed::from_conv(w, None, outputs, channels, 9),
            winograd: winograd::is_for(channels, outputs, stride).then(|| Winograd::new(w, channels, outputs)),
        }
    }

    /// Values that are held for this many channels, without the bias.
    pub fn values(channels: usize, outputs: usize, stride: usize) -> usize {
        let more = if winograd::is_for(channels, outputs, stride) { winograd::PLACES } else { 0 };
        (9 + more) * channels * outputs
    }
}

/// `y [N, H', W', Cout] = start + conv3×3(x [N, H, W, C])`.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], x: &[f32], w: &Weights, start: Start<'_>, shape: Shape, threads: Threads) {
    let Weights { channels, outputs, bias, direct, winograd } = w;
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
    match winograd {
        Some(winograd) if winograd::fills(shape) => winograd::forward(y, x, winograd, first, &geometry, threads),
        _ => direct::forward(y, x, direct, first, &geometry, threads),
    }
}

/// What the sums of N values start from.
#[derive(Clone, Copy)]
struct First<'a> {
    bias: Option<&'a [f32]>,
    start: Start<'a>,
    outputs: usize,
}

impl First<'_> {
    /// Into the rows `row0..` of the result; whether something is there now, to be added to.
    fn write(self, y: &mut [f32], row0: usize) -> bool {
        self.start.write(y, self.bias, self.outputs, row0)
    }
}
