//! Launches of `kernels/clip.cu`.

use std::ops::Range;

use crate::device::cuda::kernels::clip::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// Values of a piece at most.
const PIECE: usize = 1 << 15;

/// The tensors of a flat buffer, as the kernels read them.
#[derive(Clone, Debug)]
pub struct Table {
    /// First value, length and tensor of every piece.
    pub pieces: Vec<u32>,
    /// The first piece of every tensor, and how many there are.
    pub first: Vec<u32>,
}

impl Table {
    /// # Panics
    /// If a tensor ends beyond what 32 bits count.
    pub fn new(tensors: &[Range<usize>]) -> Self {
        let (mut pieces, mut first) = (Vec::new(), vec![0]);
        for (tensor, range) in tensors.iter().enumerate() {
            assert!(range.end < 1 << 32, "clip: {range:?}");
            for start in range.clone().step_by(PIECE) {
                let len = PIECE.min(range.end - start);
                pieces.extend([start, len, tensor].map(|n| n as u32));
            }
            first.push((pieces.len() / 3) as u32);
        }
        Self { pieces, first }
    }
}

/// Cuts every tensor of `g` to the norm `most`; `pieces` and `first` hold a [`Table`], `scratch` an f64 for each piece.
pub fn clip(
    gpu: &Gpu,
    g: View<f32>,
    (pieces, first): (View<u32>, View<u32>),
    most: f64,
    scratch: View<f64>,
) -> Result<()> {
    let count = pieces.len() / 3;
    assert!(count > 0 && first.len() > 1 && scratch.len() >= count, "clip: {count} pieces");
    let (at, partials) = (Launch::new(count, THREADS as u32), scratch.slice(0..count));
    kernels::ClipSquares { partials, g, pieces }.launch(gpu, at)?;
    kernels::ClipScale { g, partials, pieces, first, most: most as f32 }.launch(gpu, at)
}
