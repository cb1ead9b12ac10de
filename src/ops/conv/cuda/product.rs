//! A product's operands and its epilogue, checked against each other, and as the kernels take them.

use super::shape::{Segment, Shape, Taps};
use crate::device::cuda::{E4m3, Element, Half, View};
use crate::ops::activation::Activation;

/// Segments of a product at most.
const SEGMENTS: usize = 3;

/// A tensor `[rows, …]` that is read as if it repeated: image n of the output reads image `n % rows`.
#[derive(Clone, Copy, Debug)]
pub struct Source<T> {
    pub x: View<T>,
    pub rows: usize,
}

/// What is added to the sums; in the weights' order of rows (see [`pack_bias`](super::pack_bias)).
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
    /// `[n, runs, columns of y, 2]`: sums and sums of squares per channel over runs of [`RUN`](super::RUN) pixels.
    pub moments: Option<View<f32>>,
}

impl<T> Default for Epilogue<T> {
    fn default() -> Self {
        Self { bias: Bias::None, activation: Activation::None, residual: None, moments: None }
    }
}

/// Where y goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output<T> {
    Half(View<T>),
    F32(View<f32>),
    /// Rounded to T, times a factor, and rounded again.
    E4m3(View<E4m3>, f32),
}

/// What the choice of tiles and their number depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Of all images.
    pub subtiles: usize,
    pub outputs: usize,
    pub phases: usize,
}

impl Grid {
    /// Blocks of a tile's size.
    pub fn tiles(self, subtiles: usize, outputs: usize) -> usize {
        self.subtiles.div_ceil(subtiles) * self.outputs.div_ceil(outputs) * self.phases
    }
}

/// A checked product of X with an epilogue over T.
#[derive(Clone, Debug)]
pub(super) struct Product<X, T> {
    /// In phases: of the convolution over the source, before enlargement.
    pub shape: Shape,
    /// Four, or one where y is computed as it lies.
    pub phases: usize,
    pub y: Output<T>,
    pub sources: Vec<Source<X>>,
    pub w: View<X>,
    pub epilogue: Epilogue<T>,
}

impl<X: Element, T: Half> Product<X, T> {
    pub fn new(y: Output<T>, sources: &[Source<X>], w: View<X>, epilogue: Epilogue<T>, shape: &Shape) -> Self {
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
    pub fn taps(&self, segment: &Segment) -> usize {
        if self.phases == 1 { segment.taps.count() } else { 4 }
    }

    pub fn k(&self) -> usize {
        self.shape.segments.iter().map(|segment| segment.channels * self.taps(segment)).sum()
    }

    pub fn grid(&self) -> Grid {
        Grid { subtiles: self.shape.n * self.shape.runs(), outputs: self.shape.outputs, phases: self.phases }
    }

    /// Width of the phases' images; 0 where there are none.
    pub fn phase_width(&self) -> usize {
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

impl<T: Half> Product<E4m3, T> {
    /// y of T, or y of e4m3 and its factor.
    pub fn destination(&self) -> (Option<View<T>>, Option<View<E4m3>>, f32) {
        match self.y {
            Output::Half(y) => (Some(y), None, 1.0),
            Output::E4m3(y, inverse) => (None, Some(y), inverse),
            Output::F32(_) => panic!("conv: e4m3 into f32"),
        }
    }
}

/// What both families' kernels take besides the operands, as they take it. Segments that are not there have no taps.
pub(super) struct Arguments {
    pub channels: [u32; SEGMENTS],
    pub taps: [u32; SEGMENTS],
    pub rows: [u32; SEGMENTS],
    pub bias: Option<View<f32>>,
    pub bias_stride: u32,
    pub step: Option<View<u32>>,
    pub residual_rows: u32,
    pub moments: Option<View<f32>>,
    pub activation: u32,
}

impl Arguments {
    pub fn new<X: Element, T: Half>(product: &Product<X, T>) -> Self {
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
pub(super) fn int(n: usize) -> u32 {
    i32::try_from(n).map(i32::cast_unsigned).unwrap_or_else(|_| panic!("conv: {n} does not fit 31 bits"))
}
