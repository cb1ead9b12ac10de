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
mod shape;

pub use e4m3::{Quantized, Stored, forward_e4m3, forward_e4m3_by};
pub use hopper::Schedule;
pub use pack::{LAYOUT, SegmentWeights, pack, pack_bias, pack_doubling, pack_e4m3};
pub use portable::Tile;
pub use shape::{Segment, Shape, Taps};

pub use crate::ops::activation::Activation;

use crate::device::cuda::{Arch, E4m3, Element, Gpu, Half, View, kernels};
use crate::error::Result;
use crate::ops::groupnorm;

/// Pixels of one image over which moments are summed; the last run of an image may be shorter.
pub const RUN: usize = kernels::conv::RUN;
/// Segments of a product at most.
pub const SEGMENTS: usize = 3;

/// A tensor `[rows, …]` that is read as if it repeated: image n of the output reads image `n % rows`.
#[derive(Clone, Copy, Debug)]
pub struct Source<T> {
    pub x: View<T>,
    pub rows: usize,
}

/// What is added to the sums; in the weights' order of rows (see [`pack_bias`]).
#[derive(Clone, Copy, Debug, Default)]
pub enum Bias {
    #[default]
    None,
    Vector(View<f32>),
    /// Row `step[0]` of a table `[steps, stride]`, from column `offset` on.
    Table {
        table: View<f32>,
        stride: usize,
        offset: usize,
        step: View<u32>,
    },
}

/// What happens to the sums before they are stored: bias, activation, residual, rounding, moments of the rounded
/// values.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<T> {
    pub bias: Bias,
    pub activation: Activation,
    /// May be y itself where it has an image for each of y.
    pub residual: Option<Source<T>>,
    /// `[n, runs, columns of y, 2]`: sums and sums of squares per channel over runs of [`RUN`] pixels.
    pub moments: Option<View<f32>>,
}

impl<T> Default for Epilogue<T> {
    fn default() -> Self {
        Self { bias: Bias::None, activation: Activation::None, residual: None, moments: None }
    }
}

/// A family of kernels with its tile. Tiles of a family agree to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// mma.sync.
    Portable(Tile),
    /// wgmma, on at most so many multiprocessors.
    Hopper(Schedule, u32),
}

impl Variant {
    /// Those that can compute `shape` into 16 bits on this device, its weights packed for doubling or not; the wgmma
    /// kernels on few multiprocessors, so that small shapes too make a block take several tiles.
    pub fn all(gpu: &Gpu, shape: &Shape, doubling: bool) -> Vec<Self> {
        let fits = hopper::fits::<u16>(shape) || doubling && shape.doubles() && shape.by(8);
        Self::both(gpu, Tile::all(shape.by(8)), fits)
    }

    /// The same of a product of e4m3.
    pub fn all_e4m3(gpu: &Gpu, shape: &Shape) -> Vec<Self> {
        Self::both(gpu, Tile::all_e4m3(gpu, shape.by(16)), hopper::fits::<E4m3>(shape))
    }

    fn both(gpu: &Gpu, tiles: impl Iterator<Item = Tile>, fits: bool) -> Vec<Self> {
        const FEW: u32 = 4;
        let wgmma = gpu.arch() == Arch::Sm90 && fits;
        let hopper = Schedule::ALL.into_iter().filter(|_| wgmma).map(|schedule| Self::Hopper(schedule, FEW));
        tiles.map(Self::Portable).chain(hopper).collect()
    }

    /// Variants of one family give the same bits.
    pub fn family(self) -> &'static str {
        match self {
            Self::Portable(_) => "mma.sync",
            Self::Hopper(..) => "wgmma",
        }
    }

    /// The fastest; its family by the per-image problem alone.
    fn choose<X: Element, T: Half>(gpu: &Gpu, product: &Product<X, T>, tiles: impl Iterator<Item = Tile>) -> Self {
        let shape = &product.shape;
        let wide = shape.outputs >= WGMMA_OUTPUTS && !matches!(product.y, Output::F32(_));
        if gpu.arch() == Arch::Sm90 && wide && hopper::fits::<X>(shape) {
            return Self::Hopper(Schedule::choose(product.grid(), hopper::steps(product), gpu.sms()), gpu.sms());
        }
        Self::Portable(Tile::choose(tiles, product.grid(), gpu.sms()))
    }
}

/// Fewer outputs leave most of a wgmma tile unused.
const WGMMA_OUTPUTS: usize = 65;

/// Where y goes.
#[derive(Clone, Copy, Debug)]
enum Output<T> {
    Half(View<T>),
    F32(View<f32>),
    /// Rounded to T, times a factor, and rounded again.
    E4m3(View<E4m3>, f32),
}

/// What the choice of tiles and their number depend on.
#[derive(Clone, Copy, Debug)]
struct Grid {
    /// Of all images.
    subtiles: usize,
    outputs: usize,
    phases: usize,
}

impl Grid {
    /// Blocks of a tile's size.
    fn tiles(self, subtiles: usize, outputs: usize) -> usize {
        self.subtiles.div_ceil(subtiles) * self.outputs.div_ceil(outputs) * self.phases
    }
}

/// A checked product of X with an epilogue over T.
#[derive(Clone, Debug)]
struct Product<X, T> {
    /// In phases: of the convolution over the source, before enlargement.
    shape: Shape,
    /// Four, or one where y is computed as it lies.
    phases: usize,
    y: Output<T>,
    sources: Vec<Source<X>>,
    w: View<X>,
    epilogue: Epilogue<T>,
}

impl<X: Element, T: Half> Product<X, T> {
    fn new(y: Output<T>, sources: &[Source<X>], w: View<X>, epilogue: Epilogue<T>, shape: &Shape) -> Self {
        let &Shape { n, height, width, outputs, ref segments } = shape;
        let fits = (1..=SEGMENTS).contains(&segments.len())
            && segments.len() == sources.len()
            && segments.iter().all(|s| s.channels > 0 && (s.channels * size_of::<X>()).is_multiple_of(8))
            && segments.iter().all(|s| s.taps == Taps::One || Some(s.taps) == shape.three())
            && matches!(shape.stride(), 1 | 2);
        assert!(fits, "conv: {} sources for {shape:?}", sources.len());
        let pixels = shape.pixels();
        for (segment, source) in segments.iter().zip(sources) {
            let per_image = match segment.taps {
                Taps::One => pixels,
                Taps::Three { .. } => height * width,
            };
            let piece = if (segment.channels * size_of::<X>()).is_multiple_of(16) { 16 } else { 8 };
            assert!(
                source.rows > 0
                    && source.x.len() == source.rows * per_image * segment.channels
                    && source.x.is_aligned(piece),
                "conv: {source:?} as {segment:?} of {shape:?}"
            );
        }
        let (direct, doubling) = (outputs * shape.k(), outputs * shape.k() / 9 * 16);
        let packed_both = shape.enlarges() && w.len() == direct + doubling;
        assert!((w.len() == direct || packed_both) && w.is_aligned(16), "conv: weights {w:?} of {shape:?}");
        let gated = epilogue.activation == Activation::Geglu;
        assert!(!gated || outputs.is_multiple_of(16), "conv: {outputs} outputs are no blocks of 8 values and 8 gates");
        let columns = if gated { outputs / 2 } else { outputs };
        let (len, aligned, plain) = match y {
            Output::Half(y) => (y.len(), y.is_aligned(16), true),
            Output::F32(y) => (y.len(), true, !gated && epilogue.residual.is_none() && epilogue.moments.is_none()),
            Output::E4m3(y, _) => (y.len(), y.is_aligned(16), epilogue.moments.is_none()),
        };
        assert!(len == n * pixels * columns && aligned && plain, "conv: {y:?} of {shape:?} with {epilogue:?}");
        if let Bias::Vector(bias) = epilogue.bias {
            assert_eq!(bias.len(), outputs, "conv: bias");
        }
        if let Bias::Table { table, stride, offset, step } = epilogue.bias {
            let fits =
                stride > 0 && offset + outputs <= stride && table.len().is_multiple_of(stride) && step.len() == 1;
            assert!(fits, "conv: {:?} for {outputs} outputs", epilogue.bias);
        }
        if let Some(residual) = epilogue.residual {
            let (at, bytes) = match y {
                Output::Half(y) => (y.address(), y.bytes() as u64),
                Output::F32(y) => (y.address(), y.bytes() as u64),
                Output::E4m3(y, _) => (y.address(), y.bytes() as u64),
            };
            let apart = residual.x.address() + residual.x.bytes() as u64 <= at || at + bytes <= residual.x.address();
            let in_place = matches!(y, Output::Half(_)) && residual.rows == n && residual.x.address() == at;
            assert!(
                residual.rows > 0
                    && residual.x.len() == residual.rows * pixels * columns
                    && residual.x.is_aligned(16)
                    && (apart || in_place),
                "conv: {residual:?} beside {y:?}"
            );
        }
        if let Some(moments) = epilogue.moments {
            assert_eq!(moments.len(), n * shape.runs() * columns * 2, "conv: moments of {shape:?}");
        }
        let this =
            Self { shape: shape.clone(), phases: 1, y, sources: sources.to_vec(), w: w.slice(0..direct), epilogue };
        // Moments of phases need the group norm's kernel, which takes channels in eights.
        let possible = !gated && (epilogue.moments.is_none() || outputs.is_multiple_of(8));
        if packed_both && possible && shape.doubles() {
            let shape = Shape::conv(n, (height, width), segments[0].channels, outputs);
            return Self { shape, phases: 4, w: w.slice(direct..w.len()), ..this };
        }
        this.flattened()
    }

    /// Taps of a segment; three by three of a phase fall on two by two pixels.
    fn taps(&self, segment: &Segment) -> usize {
        if self.phases == 1 { segment.taps.count() } else { 4 }
    }

    fn k(&self) -> usize {
        self.shape.segments.iter().map(|segment| segment.channels * self.taps(segment)).sum()
    }

    fn grid(&self) -> Grid {
        Grid { subtiles: self.shape.n * self.shape.runs(), outputs: self.shape.outputs, phases: self.phases }
    }

    /// Width of the phases' images; 0 where there are none.
    fn phase_width(&self) -> usize {
        if self.phases == 1 { 0 } else { self.shape.width }
    }

    /// Where no pixel looks at another and no image repeats, images are one long image, whose subtiles are all full but
    /// the last.
    fn flattened(mut self) -> Self {
        let Shape { n, ref segments, .. } = self.shape;
        let plain = segments.iter().all(|segment| segment.taps == Taps::One)
            && self.sources.iter().all(|source| source.rows == n)
            && self.epilogue.residual.iter().all(|residual| residual.rows == n)
            && self.epilogue.moments.is_none();
        if plain {
            self.shape = Shape { n: 1, height: 1, width: n * self.shape.pixels(), ..self.shape };
            self.sources.iter_mut().for_each(|source| source.rows = 1);
            self.epilogue.residual.iter_mut().for_each(|residual| residual.rows = 1);
        }
        self
    }
}

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

/// What both families' kernels take besides the operands, as they take it. Segments that are not there have no taps.
struct Arguments {
    channels: [u32; SEGMENTS],
    taps: [u32; SEGMENTS],
    rows: [u32; SEGMENTS],
    bias: Option<View<f32>>,
    bias_stride: u32,
    step: Option<View<u32>>,
    residual_rows: u32,
    moments: Option<View<f32>>,
    activation: u32,
}

impl Arguments {
    fn new<X: Element, T: Half>(product: &Product<X, T>) -> Self {
        let Product { shape, sources, epilogue, .. } = product;
        let per_segment = |f: &dyn Fn(&Segment, &Source<X>) -> usize, absent: u32| {
            let mut all = [absent; SEGMENTS];
            let present = shape.segments.iter().zip(sources).map(|(segment, source)| int(f(segment, source)));
            all.iter_mut().zip(present).for_each(|(slot, value)| *slot = value);
            all
        };
        let (bias, bias_stride, step) = match epilogue.bias {
            Bias::None => (None, 0, None),
            Bias::Vector(bias) => (Some(bias), 0, None),
            Bias::Table { table, stride, offset, step } => {
                (Some(table.slice(offset..table.len())), int(stride), Some(step))
            }
        };
        let activation = match epilogue.activation {
            Activation::None => 0,
            Activation::Silu => 1,
            Activation::Gelu => 2,
            Activation::QuickGelu => 3,
            Activation::Geglu => 4,
        };
        Self {
            channels: per_segment(&|segment, _| segment.channels, 8),
            taps: per_segment(&|segment, _| product.taps(segment), 0),
            rows: per_segment(&|_, source| source.rows, 1),
            bias,
            bias_stride,
            step,
            // A phase's runs are no runs of y.
            moments: epilogue.moments.filter(|_| product.phases == 1),
            residual_rows: epilogue.residual.map_or(1, |residual| int(residual.rows)),
            activation,
        }
    }
}

/// Sizes as kernels take them.
fn int(n: usize) -> u32 {
    i32::try_from(n).map(i32::cast_unsigned).unwrap_or_else(|_| panic!("conv: {n} does not fit 31 bits"))
}
