//! Implicit GEMM: the matrix of shifted pixels `[N·H·W, 9·C]` never exists. A tile of it (at most `ROWS` rows by
//! `DEPTH` columns, half a megabyte, one per thread) is gathered while the matrix product consumes it.

use rayon::prelude::*;

use super::geometry::{Geometry, PADDING};
use super::shape::Shape;
use crate::ops::gemm::{self, Begin, Operands, Pair, Panels, Scalar, Threads, first_of};
use crate::ops::packed::{First, Form, Packed};

/// Rows (output pixels) of a tile.
const ROWS: usize = 256;

/// Pairs per task where the input is rounded.
const PAIRS: usize = 1 << 14;

/// What is multiplied: pairs are of adjacent channels, so that an odd number stays in f32.
pub(super) fn operands(channels: usize, wanted: Operands) -> Operands {
    if channels.is_multiple_of(2) { wanted } else { Operands::F32 }
}

/// As [`super::forward`].
pub(super) fn forward(y: &mut [f32], x: &[f32], w: &Packed, first: First<'_>, geometry: &Geometry, threads: Threads) {
    match &w.w {
        Form::F32(w) => Product { x, w, first, geometry }.run(y, threads),
        Form::Bf16(w) => {
            let mut pairs = vec![Pair::default(); x.len() / 2];
            match threads {
                Threads::One => Pair::round(&mut pairs, x),
                Threads::All => {
                    let some = pairs.par_chunks_mut(PAIRS).zip(x.par_chunks(2 * PAIRS));
                    some.for_each(|(pairs, x)| Pair::round(pairs, x));
                }
            }
            Product { x: &pairs, w, first, geometry }.run(y, threads);
        }
    }
}

/// What the parts of a convolution share.
struct Product<'a, T: Scalar> {
    x: &'a [T],
    w: &'a Panels<T>,
    first: First<'a>,
    geometry: &'a Geometry,
}

impl<T: Scalar<Sum = f32>> Product<'_, T> {
    fn run(&self, y: &mut [f32], threads: Threads) {
        let (rows, n) = (self.geometry.shape.rows(), self.w.n());
        let share = rows.div_ceil(rayon::current_num_threads()).next_multiple_of(16).min(ROWS);
        if threads == Threads::All && share >= 32 {
            let parts = y.par_chunks_mut(share * n).enumerate();
            return parts.for_each(|(i, y)| self.tile(y, i * share));
        }
        for (i, y) in y.chunks_mut(ROWS * n).enumerate() {
            match threads {
                Threads::One => self.tile(y, i * ROWS),
                Threads::All => self.shared(y, i * ROWS),
            }
        }
    }

    /// Some rows of the output, a block of the reduction at a time: sums are cut where [`gemm`] cuts them.
    fn tile(&self, y: &mut [f32], row0: usize) {
        let (k, rows) = (self.w.k(), y.len() / self.w.n());
        let mut begin = self.first.begin(y, row0);
        T::with_operands(|[columns, _]| {
            for k0 in (0..k).step_by(T::BLOCK) {
                let depth = (k - k0).min(T::BLOCK);
                let columns = first_of(columns, rows * depth);
                gather(self.geometry, columns, self.x, row0, k0, depth);
                gemm::packed(y, columns, self.w.block(k0), begin, Threads::One);
                begin = Begin::Result;
            }
        });
    }

    /// Some rows of the output, so few that threads share their columns.
    fn shared(&self, y: &mut [f32], row0: usize) {
        let (k, rows) = (self.w.k(), y.len() / self.w.n());
        let begin = self.first.begin(y, row0);
        T::with_operands(|[columns, _]| {
            let columns = first_of(columns, rows * k);
            let each = columns.par_chunks_mut(k).enumerate();
            each.for_each(|(i, row)| gather(self.geometry, row, self.x, row0 + i, 0, k));
            gemm::packed(y, columns, self.w.all(), begin, Threads::All);
        });
    }
}

/// Columns `k0..k0 + depth` of the rows from `row0` of the matrix of shifted pixels.
fn gather<T: Scalar>(geometry: &Geometry, out: &mut [T], x: &[T], row0: usize, k0: usize, depth: usize) {
    let Shape { height, width, channels, stride, enlarge, .. } = geometry.shape;
    let c = channels / T::VALUES;
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
pub fn copy<T: Copy + Default>(
    out: &mut [T],
    (k0, k1): (usize, usize),
    at: usize,
    source: Option<&[T]>,
    length: usize,
) {
    let (lo, hi) = (at.max(k0), (at + length).min(k1));
    if lo < hi {
        let out = &mut out[lo - k0..hi - k0];
        match source {
            Some(source) => out.copy_from_slice(&source[lo - at..hi - at]),
            None => out.fill(T::default()),
        }
    }
}
