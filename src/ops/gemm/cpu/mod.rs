//! Matrix products on the CPU: our own kernels, chosen by what the processor has.
//!
//! A task is a block of rows by a few panels of columns. For every block of the reduction these panels of `b` stay in
//! the second cache: packed for good ([`Panels`]), packed by the task, or where they lie, if their rows are whole and do
//! not meet there. Tile by tile it runs down them, with its rows of `a` in the first cache, where they are read as they
//! lie. Every value of the result is summed by one task in one order, whatever the sizes, threads and instruction set.

#[cfg(target_arch = "x86_64")]
mod amx;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod pair;
mod panels;
mod portable;
mod scalar;
mod share;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::mat::{Mat, Threads};
use kernel::{Kernels, Tile};
pub use pack::first_of;
pub use pair::Pair;
pub use panels::{Panels, Rows};
pub use scalar::{Scalar, is_fast_in_bf16};

/// Panels of a task: with a block of the reduction, 384 KB of `b`, which stay in the second cache.
const PANELS: usize = 4;

/// Columns of `a`, or rows of `b`, that are multiples of so many bytes apart meet in few sets of a cache, and are
/// packed.
const MEETING: usize = 4096;

/// Tiles whose rows of `a` are packed together, where they must be: 288 KB of a block of the reduction.
const TILES: usize = 16;

/// Tiles of rows up to which `b` is read where it lies, wherever that is.
const IN_PLACE: usize = 2;

/// The result: rows `stride` apart, columns adjacent; what is added to (rows as far apart as is said, columns adjacent;
/// it may be the result itself), and the factor of what is.
#[derive(Clone, Copy, Debug)]
pub struct Target<T> {
    pub y: *mut T,
    pub stride: usize,
    pub from: Option<(*const T, usize)>,
    pub alpha: T,
}

/// The right operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right<'a, T: Scalar> {
    Strided(Mat<T>),
    Packed(Rows<'a, T>),
}

/// What a product's tasks share.
#[derive(Clone, Copy, Debug)]
struct Product<'a, T: Scalar> {
    kernels: &'static Kernels<T, T::Sum>,
    target: Target<T::Sum>,
    a: Mat<T>,
    b: Right<'a, T>,
    sizes: (usize, usize, usize),
}

// SAFETY: tasks read the operands, and write to parts of the result of their own.
unsafe impl<T: Scalar> Sync for Product<'_, T> {}

/// `y [M, N] = from + alpha·a [M, K]·b [K, N]`.
///
/// # Safety
/// Every element of the four must be inside a live allocation, and no other thread may touch `y` meanwhile.
pub(super) unsafe fn product<T: Scalar>(
    target: Target<T::Sum>,
    a: Mat<T>,
    b: Right<'_, T>,
    sizes: (usize, usize, usize),
    threads: Threads,
) {
    let kernels = match b {
        Right::Strided(_) => T::kernels(),
        Right::Packed(rows) => rows.kernels,
    };
    let whole = Product { kernels, target, a, b, sizes };
    // SAFETY: the caller's promise.
    unsafe { whole.run(threads) }
}

/// Whether values so far apart meet in few sets of a cache.
fn meet<T>(stride: usize) -> bool {
    (stride * size_of::<T>()).is_multiple_of(MEETING)
}

impl<T: Scalar> Product<'_, T> {
    /// Some rows of the result.
    ///
    /// # Safety
    /// As [`Product::run`].
    unsafe fn rows(&self, rows: (usize, usize)) {
        let (_, n, _) = self.sizes;
        let columns = PANELS * self.kernels.columns();
        for column in (0..n).step_by(columns) {
            // SAFETY: the caller's promise.
            unsafe { self.part(rows, (column, columns.min(n - column))) }
        }
    }

    /// Some rows and columns of the result.
    ///
    /// # Safety
    /// As [`Product::run`].
    unsafe fn part(&self, (first, m): (usize, usize), (from, n): (usize, usize)) {
        let Self { kernels, target, a, sizes: (.., k), .. } = *self;
        let tiles = m.div_ceil(kernels.rows());
        let end = |tile: usize| m * tile / tiles;
        let adjacent = kernels.adjacent && a.col_stride != 1 && k > 0;
        let packs = !adjacent && a.row_stride == 1 && meet::<T>(a.col_stride);
        T::with_buffers(|[panels, rows]| {
            let mut start = 0;
            // Once without a reduction too, whose sums are 0.
            loop {
                let length = T::BLOCK.min(k - start);
                // SAFETY: the caller's promise, for these rows of the reduction.
                let places = unsafe { self.places(panels, (start, length), (from, n), tiles) };
                for tile in 0..tiles {
                    let row = end(tile);
                    // SAFETY: the caller's promise; the last tile ends with the rows, the last panel with the columns.
                    unsafe {
                        let mut a = Mat { data: a.data.add((first + row) * a.row_stride + start * a.col_stride), ..a };
                        if adjacent {
                            let rows = pack::first_of(rows, (end(tile + 1) - row) * length);
                            pack::panel(rows, a, (length, length), kernels.transpose);
                            a = Mat::rows(rows, length);
                        }
                        if packs {
                            let begin = end(tile / TILES * TILES);
                            if row == begin {
                                let ends = (tile..tiles.min(tile + TILES)).map(|tile| end(tile + 1) - begin);
                                pack::rows(rows, a, ends, length);
                            }
                            let data = rows[(row - begin) * length..].as_ptr();
                            a = Mat { data, row_stride: 1, col_stride: end(tile + 1) - row };
                        }
                        for ((b, b_row), (column, columns, width)) in places.into_iter().zip(kernels.panels(n)) {
                            let at = |apart: usize| (first + row) * apart + from + column;
                            let y = target.y.add(at(target.stride));
                            let before = target.from.map(|(data, apart)| (data.add(at(apart)), apart));
                            kernels.run[width / kernels.lanes - 1][end(tile + 1) - row - 1](Tile {
                                y,
                                y_stride: target.stride,
                                columns,
                                a: a.data,
                                a_row: a.row_stride,
                                a_column: a.col_stride,
                                b,
                                b_row,
                                k: length,
                                from: if start > 0 { Some((y.cast_const(), target.stride)) } else { before },
                                alpha: target.alpha,
                            });
                        }
                    }
                }
                start += length;
                if start >= k {
                    break;
                }
            }
        });
    }

    /// Where the panels of `n` columns from `from` on are, and how far their rows are apart, in a block of the
    /// reduction; packed into `buffer` where that is needed.
    ///
    /// # Safety
    /// As [`Product::run`].
    unsafe fn places(
        &self,
        buffer: &mut Vec<T>,
        (start, length): (usize, usize),
        (from, n): (usize, usize),
        tiles: usize,
    ) -> [(*const T, usize); PANELS] {
        let (kernels, mut places) = (self.kernels, [(std::ptr::null(), 0); PANELS]);
        match self.b {
            Right::Packed(Rows { n: all, values, .. }) => {
                let block = &values[start * all.next_multiple_of(kernels.lanes)..];
                for (place, (column, _, width)) in places.iter_mut().zip(kernels.panels(n)) {
                    // Whole panels come before.
                    *place = (block[length * (from + column)..].as_ptr(), width);
                }
            }
            Right::Strided(b) => {
                let in_place = b.col_stride == 1 && (tiles <= IN_PLACE || !meet::<T>(b.row_stride));
                let mut rest = pack::first_of(buffer, length * n.next_multiple_of(kernels.lanes));
                for (place, (column, columns, width)) in places.iter_mut().zip(kernels.panels(n)) {
                    // SAFETY: the caller's promise.
                    let data = unsafe { b.data.add(start * b.row_stride + (from + column) * b.col_stride) };
                    if in_place && columns == width {
                        *place = (data, b.row_stride);
                        continue;
                    }
                    let (panel, behind) = rest.split_at_mut(length * width);
                    // SAFETY: as above.
                    unsafe { pack::panel(panel, Mat { data, ..b }, (columns, width), kernels.transpose) };
                    *place = (panel.as_ptr(), width);
                    rest = behind;
                }
            }
        }
        places
    }
}

#[cfg(test)]
mod tests;
