//! Launches of `kernels/logit_scale.cu`.

use half::bf16;

use super::BOUNDS;
use crate::device::cuda::kernels::logit_scale::{THREADS, VALUES};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

fn blocks(len: usize) -> usize {
    len.div_ceil(THREADS * VALUES)
}

/// f32 values that [`backward`] of `len` values needs beside its operands.
pub fn scratch_len(len: usize) -> usize {
    blocks(len)
}

/// `y = e^s·x`; `s [1]`.
///
/// # Panics
/// If the lengths differ.
pub fn forward(gpu: &Gpu, y: View<f32>, x: View<f32>, s: View<f32>) -> Result<()> {
    assert!(y.len() == x.len() && s.len() == 1 && !x.is_empty(), "logit scale: {} values", x.len());
    kernels::LogitScaleForward { y, x, s, len: x.len() as u64 }
        .launch(gpu, Launch::new(blocks(x.len()), THREADS as u32))
}

/// `dx` (overwritten), and adds to `ds [1]`, given the gradient `dy` of [`forward`]'s `y`; `scratch` holds
/// [`scratch_len`] values.
///
/// # Panics
/// If the lengths do not fit.
pub fn backward(
    gpu: &Gpu,
    (dx, ds): (View<f32>, View<f32>),
    dy: View<f32>,
    y: View<f32>,
    s: View<f32>,
    scratch: View<f32>,
) -> Result<()> {
    let (len, blocks) = (dy.len(), blocks(dy.len()));
    let fits = dx.len() == len && y.len() == len && s.len() == 1 && ds.len() == 1;
    assert!(fits && len > 0 && scratch.len() >= blocks, "logit scale: {len} values");
    let (at, partial) = (Launch::new(blocks, THREADS as u32), scratch.slice(0..blocks));
    kernels::LogitScaleBackward { dx, partial, dy, y, s, len: len as u64 }.launch(gpu, at)?;
    kernels::LogitScaleTotal { ds, partial, count: blocks as u32 }.launch(gpu, Launch::new(1, 32))
}

/// Brings `s [1]` back into its bounds, and its bf16 copy.
pub fn clamp(gpu: &Gpu, s: View<f32>, rounded: View<bf16>) -> Result<()> {
    assert!(s.len() == 1 && rounded.len() == 1, "logit scale: one value");
    let [low, high] = BOUNDS;
    kernels::LogitScaleClamp { s, rounded, low, high }.launch(gpu, Launch::new(1, 32))
}
