//! Rows of tokens by whole numbers: what a masked autoencoder (He et al. 2022, arXiv 2111.06377) does around its
//! encoder, which sees some of an image's tokens, and before its decoder, which sees a filler in the place of the
//! others.
//!
//! [`take`] keeps rows; [`place`] puts them where they belong, a filler elsewhere, and adds positions.
//!
//! FLOPs: one per value that is placed. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::reduce::add;
use super::simd::vectorize;

/// Sizes: of `n` images each, `from` rows of width `d` become `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub from: usize,
    pub to: usize,
    pub d: usize,
}

impl Shape {
    /// Bytes moved by [`take`] or [`place`], with values of `size` bytes.
    pub fn bytes(self, size: usize) -> f64 {
        (2 * size * self.n * self.to * self.d) as f64
    }

    /// Of the way back: every row from its place.
    pub fn backward(self) -> Self {
        Self { from: self.to, to: self.from, ..self }
    }

    fn check(self, to: &[f32], from: &[f32], rows: &[u32]) {
        let Self { n, d, .. } = self;
        let fits = n > 0 && d > 0 && to.len() == n * self.to * d && from.len() == n * self.from * d;
        assert!(fits && rows.len() == n * self.to, "rows: {} to {}, {} of {self:?}", from.len(), to.len(), rows.len());
    }
}

/// `y [N, to, D]` from `x [N, from, D]`: row j of an image is its row `rows[j]`.
///
/// # Panics
/// If lengths do not fit or a row is not below `from`.
pub fn take(y: &mut [f32], x: &[f32], rows: &[u32], shape: Shape) {
    shape.check(y, x, rows);
    let Shape { from, to, d, .. } = shape;
    let images = y.par_chunks_mut(to * d).zip(x.par_chunks(from * d)).zip(rows.par_chunks(to));
    images.for_each(|((y, x), rows)| {
        for (y, &row) in y.chunks_exact_mut(d).zip(rows) {
            y.copy_from_slice(&x[row as usize * d..][..d]);
        }
    });
}

/// Where rows go: `rows [N, to]` names the row of each place, `from` or above for the filler; `at [N, to]` the position
/// of each place, its own number where absent.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    pub rows: &'a [u32],
    pub at: Option<&'a [u32]>,
}

/// `y [N, to, D]`: row `rows[t]` of `x [N, from, D]` or `fill [D]`, plus row `at[t]` of `pos [·, D]`.
///
/// # Panics
/// If lengths do not fit or a position is not there.
pub fn place(y: &mut [f32], x: &[f32], fill: &[f32], pos: &[f32], places: Places, shape: Shape) {
    let Places { rows, at } = places;
    shape.check(y, x, rows);
    let Shape { from, to, d, .. } = shape;
    y.par_chunks_mut(to * d).zip(x.par_chunks(from * d)).enumerate().for_each(|(image, (y, x))| {
        for (t, y) in y.chunks_exact_mut(d).enumerate() {
            let row = rows[image * to + t] as usize;
            y.copy_from_slice(if row < from { &x[row * d..][..d] } else { fill });
            let position = at.map_or(t, |at| at[image * to + t] as usize);
            add(y, &pos[position * d..][..d]);
        }
    });
}

/// Adds to `dfill [D]` the gradient `dy [N, to, D]` of the places that hold the filler.
///
/// # Panics
/// If lengths do not fit.
pub fn fill_backward(dfill: &mut [f32], dy: &[f32], rows: &[u32], shape: Shape) {
    let Shape { n, from, to, d } = shape;
    assert!(dy.len() == n * to * d && rows.len() == n * to && dfill.len() == d, "rows: dy {} of {shape:?}", dy.len());
    let mut sums = vec![0.0f32; n * d];
    sums.par_chunks_mut(d).zip(dy.par_chunks(to * d)).zip(rows.par_chunks(to)).for_each(|((sum, dy), rows)| {
        vectorize(
            #[inline(always)]
            || {
                for (dy, _) in dy.chunks_exact(d).zip(rows).filter(|(_, row)| **row as usize >= from) {
                    add(sum, dy);
                }
            },
        );
    });
    sums.chunks_exact(d).for_each(|sum| add(dfill, sum));
}
