//! Launches of `kernels/rows.cu`.

use half::bf16;

use super::Shape;
use crate::device::cuda::kernels::rows::{FILL_THREADS, THREADS};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::reduce;

/// Values per thread.
fn width_of(shape: Shape, bf16s: &[View<bf16>], f32s: &[View<f32>]) -> usize {
    let aligned = bf16s.iter().all(|view| view.is_aligned(16)) && f32s.iter().all(|view| view.is_aligned(16));
    if aligned && shape.d.is_multiple_of(8) { 8 } else { 1 }
}

/// A thread per `width` values of the result.
fn plan(shape: Shape, width: usize) -> Launch {
    Launch::new((shape.n * shape.to * shape.d / width).div_ceil(THREADS), THREADS as u32)
}

fn check(to: View<bf16>, from: usize, rows: View<u32>, shape: Shape) -> [u32; 4] {
    let Shape { n, d, .. } = shape;
    let fits = n > 0 && d > 0 && shape.to > 0 && shape.from > 0 && n * shape.to * d / 8 < 1 << 31 && n < 1 << 16;
    assert!(fits && shape.to * d < 1 << 31 && shape.from * d < 1 << 31, "rows: {shape:?}");
    let lengths = to.len() == n * shape.to * d && from == n * shape.from * d && rows.len() == n * shape.to;
    assert!(lengths, "rows: {from} to {}, {} of {shape:?}", to.len(), rows.len());
    [n, shape.from, shape.to, d].map(|n| n as u32)
}

/// [`super::take`]; only the host can tell that rows are there.
pub fn take(gpu: &Gpu, y: View<bf16>, x: View<bf16>, rows: View<u32>, shape: Shape) -> Result<()> {
    let [n, from, to, d] = check(y, x.len(), rows, shape);
    let width = width_of(shape, &[y, x], &[]);
    kernels::RowsTake { y, x, rows, n, from, to, d }.launch(gpu, plan(shape, width), width)
}

/// As [`super::Places`].
#[derive(Clone, Copy, Debug)]
pub struct Places {
    pub rows: View<u32>,
    pub at: Option<View<u32>>,
}

/// [`super::place`]; only the host can tell that positions are there.
pub fn place(
    gpu: &Gpu,
    y: View<bf16>,
    x: View<bf16>,
    [fill, pos]: [View<f32>; 2],
    Places { rows, at }: Places,
    shape: Shape,
) -> Result<()> {
    let [n, from, to, d] = check(y, x.len(), rows, shape);
    let fits = fill.len() == shape.d && pos.len().is_multiple_of(shape.d) && at.is_none_or(|at| at.len() == rows.len());
    assert!(fits && (at.is_some() || pos.len() == shape.to * shape.d), "rows: positions {} of {shape:?}", pos.len());
    let width = width_of(shape, &[y, x], &[fill, pos]);
    let places = at;
    kernels::RowsPlace { y, x, fill, pos, rows, places, n, from, to, d }.launch(gpu, plan(shape, width), width)
}

/// f32 values that [`fill_backward`] needs as scratch.
pub fn scratch_len(shape: Shape) -> usize {
    shape.n * shape.d
}

/// [`super::fill_backward`].
pub fn fill_backward(
    gpu: &Gpu,
    dfill: View<f32>,
    dy: View<bf16>,
    rows: View<u32>,
    scratch: View<f32>,
    shape: Shape,
) -> Result<()> {
    let [_, from, to, d] = check(dy, shape.n * shape.from * shape.d, rows, shape);
    assert!(dfill.len() == shape.d && scratch.len() >= scratch_len(shape), "rows: scratch {}", scratch.len());
    let partials = scratch.slice(0..scratch_len(shape));
    let width = width_of(shape, &[dy], &[partials]);
    let at = Launch::grid([(shape.d / width).div_ceil(FILL_THREADS), shape.n, 1], FILL_THREADS as u32);
    kernels::RowsFill { partials, dy, rows, from, to, d }.launch(gpu, at, width)?;
    reduce::cuda::add_partials(gpu, dfill, None, partials)
}
