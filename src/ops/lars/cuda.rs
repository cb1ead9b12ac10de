//! Launches of `kernels/lars.cu`.

use half::bf16;

use super::{Lars, Tensor};
use crate::device::cuda::kernels::lars::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::clip::cuda::Table as Pieces;
use crate::ops::optimizer::cuda::Guard;

/// Numbers of [`Lars::settings`].
pub const SETTINGS: usize = 4;

impl Lars {
    /// What the kernels read from device memory at every step.
    pub fn settings(&self) -> [f32; SETTINGS] {
        [self.lr, self.momentum, self.weight_decay, self.trust].map(|value| value as f32)
    }
}

/// The tensors of a flat buffer, as the kernels read them.
#[derive(Clone, Debug)]
pub struct Table {
    pub pieces: Vec<u32>,
    pub first: Vec<u32>,
    /// Whether a tensor is decayed and scaled.
    pub scaled: Vec<u32>,
}

impl Table {
    /// # Panics
    /// If a tensor ends beyond what 32 bits count.
    pub fn new(tensors: &[Tensor]) -> Self {
        let ranges: Vec<_> = tensors.iter().map(|tensor| tensor.range.clone()).collect();
        let Pieces { pieces, first } = Pieces::new(&ranges);
        Self { pieces, first, scaled: tensors.iter().map(|tensor| tensor.scaled.into()).collect() }
    }

    /// f64 values that an update keeps partial sums in.
    pub fn scratch_len(&self) -> usize {
        2 * self.pieces.len() / 3
    }
}

/// A [`Table`] in device memory.
#[derive(Clone, Copy, Debug)]
pub struct Tensors {
    pub pieces: View<u32>,
    pub first: View<u32>,
    pub scaled: View<u32>,
}

/// What an update changes: parameters, their momentum, and the copy that the network computes with.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    pub p: View<f32>,
    pub m: View<f32>,
    pub rounded: View<bf16>,
}

/// [`Lars::update`] with gradient `g`, which it clears; `settings` holds [`Lars::settings`], `scratch`
/// [`Table::scratch_len`] values. Changes nothing unless both numbers of `guard` are finite.
///
/// # Panics
/// If lengths differ or the guard has no loss.
pub fn update(
    gpu: &Gpu,
    Buffers { p, m, rounded }: Buffers,
    g: View<f32>,
    Tensors { pieces, first, scaled }: Tensors,
    settings: View<f32>,
    guard: Guard,
    scratch: View<f64>,
) -> Result<()> {
    let count = pieces.len() / 3;
    let fits = m.len() == p.len() && g.len() == p.len() && rounded.len() == p.len() && settings.len() == SETTINGS;
    assert!(fits && count > 0 && first.len() == scaled.len() + 1, "lars: {} values in {count} pieces", p.len());
    let (Guard { sum_of_squares, loss: Some(loss) }, true) = (guard, scratch.len() >= 2 * count) else {
        panic!("lars: no loss, or scratch {} of {count} pieces", scratch.len());
    };
    let (at, partials) = (Launch::new(count, THREADS as u32), scratch.slice(0..2 * count));
    kernels::LarsSquares { partials, p, g, settings, pieces }.launch(gpu, at)?;
    kernels::LarsUpdate { p, m, g, rounded, partials, pieces, first, scaled, settings, sum_of_squares, loss }
        .launch(gpu, at)
}
