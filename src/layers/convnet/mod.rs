//! What a convolutional network of inference is made of, such as Inception, over maps in f32: convolutions with a
//! rectifier, pools, and results side by side.
//!
//! A network is a walk over [`Layers`]; [`cpu`] and [`cuda`] compute it, and [`count`] says what memory it needs.

pub mod count;
pub mod cpu;
#[cfg(cuda_kernels)]
pub mod cuda;

use super::Size;
use crate::error::Result;
use crate::ops::conv2d::{Shape, Window};
use crate::ops::pool::Pool;

/// Channels of a picture; no maps within have so few.
pub const CHANNELS: usize = 3;

/// A convolution with its batch norm, and the rectifier behind it.
#[derive(Debug)]
pub struct Conv<W> {
    pub weights: W,
    pub window: Window,
    pub outputs: usize,
}

impl<W> Conv<W> {
    /// Height and width of what it gives.
    pub fn size(&self, (height, width): Size) -> Size {
        Shape { n: 1, height, width, channels: 1, window: self.window }.output()
    }
}

/// A place in memory, which holds one tensor after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Pictures,
    /// What a stage gives and the next one, in turn: 0 and 1.
    Map(usize),
    /// What lies within a branch, in turn.
    Inner(usize),
}

impl Slot {
    /// Number of those that a walk writes to.
    pub const WRITTEN: usize = 4;

    /// Among those that are written to.
    ///
    /// # Panics
    /// For [`Slot::Pictures`].
    pub fn number(self) -> usize {
        match self {
            Self::Pictures => panic!("pictures are not written to"),
            Self::Map(i) => i,
            Self::Inner(i) => 2 + i,
        }
    }

    /// The other one of [`Slot::Map`], for what comes next.
    pub fn next_map(self) -> Self {
        Self::Map(usize::from(self == Self::Map(0)))
    }

    /// The other one of [`Slot::Inner`].
    pub fn next_inner(self) -> Self {
        Self::Inner(usize::from(self == Self::Inner(0)))
    }
}

/// Maps `[N, height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    pub slot: Slot,
    pub n: usize,
    pub size: Size,
    pub channels: usize,
}

impl Maps {
    /// N·height·width.
    pub fn pixels(self) -> usize {
        self.n * self.size.0 * self.size.1
    }

    /// With a window that slides over them.
    pub fn under(self, window: Window) -> Shape {
        Shape { n: self.n, height: self.size.0, width: self.size.1, channels: self.channels, window }
    }

    /// All their channels.
    pub fn all(self) -> Part {
        Part { maps: self, first: 0, channels: self.channels }
    }
}

/// `channels` of maps, from `first`.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub maps: Maps,
    pub first: usize,
    pub channels: usize,
}

/// What a device does for a network.
pub trait Layers<W> {
    /// `y = max(0, bias + convolution(x))`.
    fn conv(&mut self, y: Part, x: Maps, conv: &Conv<W>) -> Result<()>;
    fn pool(&mut self, y: Part, x: Maps, pool: (Pool, Window)) -> Result<()>;
}
