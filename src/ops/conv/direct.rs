//! Implicit GEMM: the matrix of shifted pixels `[N·H·W, 9·C]` never exists. A tile of it (at most `ROWS` rows by `DEPTH`
//! columns, half a megabyte, one per thread) is gathered while the matrix product consumes it.

use std::cell::Cell;

use rayon::prelude::*;

use super::geometry::{Geometry, PADDING};
use super::{First, Shape};
use crate::ops::gemm::{self, Threads};
use crate::ops::packed::Packed;

/// Rows (output pixels) of a tile.
const ROWS: usize = 256;
/// Columns (input values) of a tile: the block length of the reduction in [`gemm`], so sums are cut at the same places.
const DEPTH: usize = gemm::BLOCK;

thread_local! {
    /// The tile of this thread. Taken while in use, so that a task stolen in between gets its own.
    static TILE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// As [`super::forward`].
pub(super) fn forward(y: &mut [f32], x: &[f32], w: &Packed, first: First<'_>, geometry: &Geometry, threads: Threads) {
    let (rows, n) = (geometry.shape.rows(), w.n);
    if threads == Threads::One {
        for (i, y) in y.chunks_mut(ROWS * n).enumerate() {
            tile(y, x, w, first, geometry, i * ROWS, Threads::One);
        }
        return;
    }
    let share = rows.div_ceil(rayon::current_num_threads()).next_multiple_of(16).min(ROWS);
    if share < 32 {
        return tile(y, x, w, first, geometry, 0, Threads::All);
    }
    y.par_chunks_mut(share * n).enumerate().for_each(|(i, y)| tile(y, x, w, first, geometry, i * share, Threads::One));
}

/// Some rows of the output.
fn tile(y: &mut [f32], x: &[f32], w: &Packed, first: First<'_>, geometry: &Geometry, row0: usize, threads: Threads) {
    let (k, n) = (w.k, w.n);
    let rows = y.len() / n;
    let mut accumulate = first.write(y, row0);
    let mut buffer = TILE.take();
    for k0 in (0..k).step_by(DEPTH) {
        let depth = (k - k0).min(DEPTH);
        if buffer.len() < rows * depth {
            buffer.resize(rows * depth, 0.0);
        }
        let columns = &mut buffer[..rows * depth];
        gather(geometry, columns, x, row0, k0, depth);
        gemm::packed(y, columns, w.w.block(k0), accumulate, threads);
        accumulate = true;
    }
    TILE.set(buffer);
}

/// Columns `k0..k0 + depth` of the rows from `row0` of the matrix of shifted pixels.
fn gather(geometry: &Geometry, out: &mut [f32], x: &[f32], row0: usize, k0: usize, depth: usize) {
    let Shape { height, width, channels: c, stride, enlarge, .. } = geometry.shape;
    let (out_height, out_width) = geometry.output;
    let k1 = k0 + depth;
    let (mut oy, mut ox) = (row0 / out_width % out_height, row0 % out_width);
    let mut image = row0 / (out_width * out_height);
    for out in out.chunks_exact_mut(depth) {
        let cols: [usize; 3] = std::array::from_fn(|kx| geometry.column(ox * stride + kx));
        let adjacent = enlarge.is_none() && cols[0] != PADDING && cols[2] != PADDING;
        for ky in k0 / (3 * c)..=(k1 - 1) / (3 * c) {
            let iy = geometry.row(oy * stride + ky);
            if iy == PADDING {
                copy(out, (k0, k1), ky * 3 * c, None, 3 * c);
                continue;
            }
            let line = (image * height + iy) * width;
            if adjacent {
                let from = (line + cols[0]) * c;
                copy(out, (k0, k1), ky * 3 * c, Some(&x[from..from + 3 * c]), 3 * c);
                continue;
            }
            for (kx, ix) in cols.into_iter().enumerate() {
                let source = (ix != PADDING).then(|| &x[(line + ix) * c..(line + ix + 1) * c]);
                copy(out, (k0, k1), (ky * 3 + kx) * c, source, c);
            }
        }
        ox += 1;
        if ox == out_width {
            (ox, oy) = (0, oy + 1);
            if oy == out_height {
                (oy, image) = (0, image + 1);
            }
        }
    }
}

/// The part inside columns `k0..k1` of a run of `length` values that starts at column `at`; `None` writes zeros.
#[inline(always)]
pub fn copy(out: &mut [f32], (k0, k1): (usize, usize), at: usize, source: Option<&[f32]>, length: usize) {
    let (lo, hi) = (at.max(k0), (at + length).min(k1));
    if lo < hi {
        let out = &mut out[lo - k0..hi - k0];
        match source {
            Some(source) => out.copy_from_slice(&source[lo - at..hi - at]),
            None => out.fill(0.0),
        }
    }
}
