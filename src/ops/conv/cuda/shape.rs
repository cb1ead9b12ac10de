//! Sizes of a product: its segments, what they read, and what comes out.

use crate::device::cuda::kernels;

/// Pixels of one image over which moments are summed; the last run of an image may be shorter.
pub const RUN: usize = kernels::conv::RUN;

/// Which neighbours of a pixel a segment looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// The pixel alone: 1×1 convolutions and linear layers.
    One,
    /// 3×3 with padding 1, after nearest enlargement to so many rows and columns (source index ⌊i·in/out⌋).
    Three { stride: usize, enlarge: Option<(usize, usize)> },
}

impl Taps {
    /// 3×3 at every pixel.
    pub const SAME: Self = Self::Three { stride: 1, enlarge: None };

    pub(super) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Three { .. } => 9,
        }
    }
}

/// A part of K: all taps of all channels of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub channels: usize,
    pub taps: Taps,
}

/// Sizes of a product. Segments of three by three taps share height, width, stride and enlargement; segments of one tap
/// have the output's height and width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    /// Of the first segment's input.
    pub height: usize,
    pub width: usize,
    /// Rows of the weights: after a gated activation (GEGLU) y has half as many columns.
    pub outputs: usize,
    pub segments: Vec<Segment>,
}

impl Shape {
    /// A 3×3 convolution, stride 1.
    pub fn conv(n: usize, (height, width): (usize, usize), channels: usize, outputs: usize) -> Self {
        Self::of(n, (height, width), Segment { channels, taps: Taps::SAME }, outputs)
    }

    /// A linear layer over `pixels` tokens of each of `n` images, or a 1×1 convolution.
    pub fn linear(n: usize, pixels: usize, channels: usize, outputs: usize) -> Self {
        Self::of(n, (1, pixels), Segment { channels, taps: Taps::One }, outputs)
    }

    /// One segment.
    pub fn of(n: usize, (height, width): (usize, usize), first: Segment, outputs: usize) -> Self {
        Self { n, height, width, outputs, segments: vec![first] }
    }

    /// With another segment of one tap, of the output's size.
    pub fn and(mut self, channels: usize) -> Self {
        self.segments.push(Segment { channels, taps: Taps::One });
        self
    }

    /// The taps of the segments that have nine.
    pub(super) fn three(&self) -> Option<Taps> {
        self.segments.iter().map(|segment| segment.taps).find(|taps| *taps != Taps::One)
    }

    /// Height and width of the image that is convolved: enlarged, before striding.
    pub(super) fn canvas(&self) -> (usize, usize) {
        match self.three() {
            Some(Taps::Three { enlarge: Some(size), .. }) => size,
            _ => (self.height, self.width),
        }
    }

    /// Whether all channels come in pieces of so many.
    pub(super) fn by(&self, piece: usize) -> bool {
        self.segments.iter().all(|segment| segment.channels.is_multiple_of(piece))
    }

    /// Whether it could be a twofold enlargement at another size: weights may then be packed for it.
    pub(super) fn enlarges(&self) -> bool {
        self.segments.len() == 1 && matches!(self.three(), Some(Taps::Three { stride: 1, enlarge: Some(_) }))
    }

    /// Whether it can be computed in phases.
    pub(super) fn doubles(&self) -> bool {
        self.enlarges() && self.canvas() == (2 * self.height, 2 * self.width)
    }

    pub(super) fn stride(&self) -> usize {
        match self.three() {
            Some(Taps::Three { stride, .. }) => stride,
            _ => 1,
        }
    }

    /// Height and width of the output.
    pub fn output(&self) -> (usize, usize) {
        let (height, width) = self.canvas();
        (height.div_ceil(self.stride()), width.div_ceil(self.stride()))
    }

    /// Output pixels of an image.
    pub fn pixels(&self) -> usize {
        let (height, width) = self.output();
        height * width
    }

    /// Runs of an image's moments.
    pub fn runs(&self) -> usize {
        self.pixels().div_ceil(RUN)
    }

    /// Values of a row of weights.
    pub fn k(&self) -> usize {
        self.segments.iter().map(|segment| segment.channels * segment.taps.count()).sum()
    }

    pub fn flops(&self) -> f64 {
        2.0 * (self.n * self.pixels()) as f64 * self.k() as f64 * self.outputs as f64
    }

    /// Bytes of sources, weights and output in 16 bits, each once.
    pub fn bytes(&self) -> f64 {
        let source = |segment: &Segment| match segment.taps {
            Taps::One => self.pixels() * segment.channels,
            Taps::Three { .. } => self.height * self.width * segment.channels,
        };
        let sources: usize = self.segments.iter().map(source).sum();
        2.0 * (self.n * (sources + self.pixels() * self.outputs) + self.k() * self.outputs) as f64
    }
}
