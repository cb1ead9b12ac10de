//! Products over e4m3 (`kernels/conv_sm89.cu`, `kernels/conv_e4m3_sm90.cu`): 3×3 convolutions of stride 1 and linear
//! layers of one source, on Ada, Hopper and newer.
//!
//! A source's values are e4m3(x / s_x) with one scale per tensor, weights e4m3(w / s_w) with one per output; f32 sums
//! of their products are multiplied by s_x·s_w, and everything after is what [`forward`](super::forward) does. So
//! results differ from it by the operands' rounding (2⁻⁴ of each at most) alone.

use super::portable::Tile;
use super::product::{Epilogue, Output, Product, Source};
use super::shape::{Shape, Taps};
use super::variant::Variant;
use super::{hopper, portable};
use crate::device::cuda::{E4m3, Gpu, Half, View};
use crate::error::Result;

/// Weights from [`pack_e4m3`](super::pack_e4m3).
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    pub w: View<E4m3>,
    /// One per row of `w`: the row's own scale times the source's.
    pub scales: View<f32>,
}

/// Where y goes.
#[derive(Clone, Copy, Debug)]
pub enum Stored<T> {
    Half(View<T>),
    /// Rounded to T as ever, times `inverse` in f32 (one over the scale of the layer that reads it), rounded to e4m3,
    /// ±448 at most. Without moments.
    E4m3 {
        y: View<E4m3>,
        inverse: f32,
    },
}

impl<T> From<View<T>> for Stored<T> {
    fn from(y: View<T>) -> Self {
        Self::Half(y)
    }
}

/// `y [n, pixels, outputs] = epilogue(Σ x·w · scales)`; without a variant the fastest is taken.
///
/// # Errors
/// Device error on cards without e4m3 ([`Gpu::has_e4m3`]).
///
/// # Panics
/// If `shape` is no 3×3 convolution of stride 1 without enlargement and no linear layer of one segment, its channels no
/// multiple of 8, or lengths or alignments (16 bytes; 8 of x for channels that are no multiple of 16) do not fit.
pub fn forward_e4m3_by<T: Half>(
    gpu: &Gpu,
    variant: Option<Variant>,
    y: Stored<T>,
    x: Source<E4m3>,
    w: Quantized,
    epilogue: Epilogue<T>,
    shape: &Shape,
) -> Result<()> {
    let kind = shape.segments.len() == 1 && matches!(shape.segments[0].taps, Taps::One | Taps::SAME);
    assert!(kind, "conv: e4m3 of {shape:?}");
    assert_eq!(w.scales.len(), shape.outputs, "conv: scales of {shape:?}");
    let y = match y {
        Stored::Half(y) => Output::Half(y),
        Stored::E4m3 { y, inverse } => Output::E4m3(y, inverse),
    };
    let product = Product::new(y, &[x], w.w, epilogue, shape);
    gpu.needs_e4m3()?;
    if product.shape.n == 0 || product.shape.pixels() == 0 {
        return Ok(());
    }
    let tiles = Tile::all_e4m3(gpu, product.shape.by(16));
    match variant.unwrap_or_else(|| Variant::choose(gpu, &product, tiles)) {
        Variant::Portable(tile) => portable::product_e4m3(gpu, &product, w.scales, tile),
        Variant::Hopper(schedule, sms) => hopper::product_e4m3(gpu, &product, w.scales, schedule, sms),
    }
}

/// [`forward_e4m3_by`] the fastest variant.
pub fn forward_e4m3<T: Half>(
    gpu: &Gpu,
    y: Stored<T>,
    x: Source<E4m3>,
    w: Quantized,
    epilogue: Epilogue<T>,
    shape: &Shape,
) -> Result<()> {
    forward_e4m3_by(gpu, None, y, x, w, epilogue, shape)
}
