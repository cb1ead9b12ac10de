//! Every matrix product of the generator on CUDA: convolutions 3×3 and 1×1 and linear layers over f16 or bf16, f32
//! accumulators, the layer's elementwise work and the next group norm's sums in the epilogue.
//!
//! A product's K is a chain of [`Segment`]s, each read from a tensor of its own, so that neither a skip connection is
//! concatenated nor a residual block's shortcut computed apart. `kernels/conv.cu` runs on every card;
//! `kernels/conv_sm90.cu` (TMA, wgmma) runs on Hopper and takes channels in eights, without enlargement but the
//! twofold, into 16 bits.
//!
//! A 3×3 convolution after a twofold enlargement whose weights come from [`pack_doubling`] runs as four of 2×2 taps,
//! one per parity of row and column of the output: 4 of 9 products. Its moments are a kernel of their own.
//!
//! An image's bits depend on its own inputs and on the per-image problem, not on the batch, the tile or the card's
//! size: every tile adds k in the same steps, and the family of kernels is chosen without looking at the batch.

mod e4m3;
mod hopper;
mod pack;
mod portable;
mod product;
mod shape;
mod variant;

pub use e4m3::{Quantized, Stored, forward_e4m3, forward_e4m3_by};
pub use hopper::Schedule;
pub use pack::{LAYOUT, SegmentWeights, pack, pack_bias, pack_doubling, pack_e4m3};
pub use portable::Tile;
pub use product::{Bias, Epilogue, Source};
pub use shape::{RUN, Segment, Shape, Taps};
pub use variant::Variant;

pub use crate::ops::activation::Activation;

use self::product::{Output, Product};
use crate::device::cuda::{Gpu, Half, View};
use crate::error::Result;
use crate::ops::groupnorm;

/// `y [n, pixels, outputs] = epilogue(Σ sources·w)` with `w` from [`pack()`]; without a variant the fastest is taken.
///
/// # Panics
/// If lengths or alignments (16 bytes; 8 for channels that are no multiple of 8) do not fit.
pub fn forward_by<T: Half>(
    gpu: &Gpu,
    variant: Option<Variant>,
    y: View<T>,
    sources: &[Source<T>],
    w: View<T>,
    epilogue: Epilogue<T>,
    shape: &Shape,
) -> Result<()> {
    run(gpu, variant, &Product::new(Output::Half(y), sources, w, epilogue, shape))
}

/// [`forward_by`] the fastest variant.
pub fn forward<T: Half>(
    gpu: &Gpu,
    y: View<T>,
    sources: &[Source<T>],
    w: View<T>,
    epilogue: Epilogue<T>,
    shape: &Shape,
) -> Result<()> {
    forward_by(gpu, None, y, sources, w, epilogue, shape)
}

/// [`forward`] into f32; for few outputs, without residual, moments and gates.
pub fn forward_f32<T: Half>(
    gpu: &Gpu,
    y: View<f32>,
    sources: &[Source<T>],
    w: View<T>,
    epilogue: Epilogue<T>,
    shape: &Shape,
) -> Result<()> {
    run(gpu, None, &Product::new(Output::F32(y), sources, w, epilogue, shape))
}

fn run<T: Half>(gpu: &Gpu, variant: Option<Variant>, product: &Product<T, T>) -> Result<()> {
    if product.shape.n == 0 || product.shape.pixels() == 0 {
        return Ok(());
    }
    let tiles = Tile::all(product.shape.by(8));
    match variant.unwrap_or_else(|| Variant::choose(gpu, product, tiles)) {
        Variant::Portable(tile) => portable::product(gpu, product, tile)?,
        Variant::Hopper(schedule, sms) => hopper::product(gpu, product, schedule, sms)?,
    }
    match (product.y, product.epilogue.moments) {
        (Output::Half(y), Some(moments)) if product.phases > 1 => {
            let Shape { n, outputs, .. } = product.shape;
            groupnorm::cuda::moments(gpu, moments, y, n, product.phases * product.shape.pixels(), outputs)
        }
        _ => Ok(()),
    }
}
