//! Operands as kernels stream them, where they do not lie so.

use super::kernel::{ROWS_AT_MOST, Transpose};
use crate::ops::gemm::mat::Mat;

/// Rows that are copied at once where columns are not adjacent, so that what they share of a cache line is used.
const ROWS: usize = 16;

/// Values that are copied without a call.
const RUN: usize = 4;

/// The first `len` values of a buffer, which grows where it has fewer.
pub fn first_of<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// Writes `b [length, columns]` as a `panel` `[length, width]`, with zeros behind the last column.
///
/// # Safety
/// These values of `b` must be inside a live allocation, and the processor must have the transpose's instructions.
pub(super) unsafe fn panel<T: Copy + Default>(
    panel: &mut [T],
    b: Mat<T>,
    (columns, width): (usize, usize),
    transpose: Option<Transpose<T>>,
) {
    assert!(columns <= width && panel.len().is_multiple_of(width), "pack: a panel of whole rows");
    if b.col_stride == 1 {
        for (l, row) in panel.chunks_exact_mut(width).enumerate() {
            // SAFETY: the caller's promise: adjacent columns.
            let from = unsafe { std::slice::from_raw_parts(b.data.add(l * b.row_stride), columns) };
            let (runs, rest) = from.as_chunks::<RUN>();
            let (to, behind) = row.split_at_mut(columns - rest.len());
            to.as_chunks_mut::<RUN>().0.iter_mut().zip(runs).for_each(|(to, from)| *to = *from);
            behind[..rest.len()].copy_from_slice(rest);
            behind[rest.len()..].fill(T::default());
        }
        return;
    }
    // Whole squares of adjacent steps first.
    let (steps, squares) = match transpose.filter(|_| b.row_stride == 1) {
        Some(Transpose { side, run }) => {
            let (steps, squares) = (panel.len() / width / side * side, columns / side * side);
            for step in (0..steps).step_by(side) {
                for column in (0..squares).step_by(side) {
                    let to = &mut panel[step * width + column..];
                    // SAFETY: the caller's promise; rows and columns of the square are among the panel's, which are
                    // whole.
                    unsafe { run((to.as_mut_ptr(), width), (b.data.add(step + column * b.col_stride), b.col_stride)) }
                }
            }
            (steps, squares)
        }
        None => (0, 0),
    };
    for (block, rows) in panel.chunks_mut(ROWS * width).enumerate() {
        for j in 0..columns {
            let done = if j < squares { steps.saturating_sub(block * ROWS) } else { 0 };
            for (l, row) in rows.chunks_exact_mut(width).enumerate().skip(done) {
                // SAFETY: the caller's promise.
                row[j] = unsafe { *b.data.add((block * ROWS + l) * b.row_stride + j * b.col_stride) };
            }
        }
        rows.chunks_exact_mut(width).for_each(|row| row[columns..].fill(T::default()));
    }
}

/// Steps of the reduction that are copied for one tile after the other: as many rows as are read ahead of by themselves.
const STEPS: usize = 16;

/// Writes `a [rows, length]`, whose rows are adjacent, to `buffer`, tile after tile of the rows that `ends` ends, each
/// as `[length, rows of it]`: columns far apart would meet in few sets of a cache, and few of their pages are known.
///
/// # Safety
/// These values of `a` must be inside a live allocation.
pub(super) unsafe fn rows<T: Copy + Default>(
    buffer: &mut Vec<T>,
    a: Mat<T>,
    ends: impl Iterator<Item = usize> + Clone,
    length: usize,
) {
    let buffer = first_of(buffer, ends.clone().last().unwrap_or(0) * length);
    for start in (0..length).step_by(STEPS) {
        let steps = STEPS.min(length - start);
        let mut row = 0;
        for end in ends.clone() {
            let rows = end - row;
            let to = &mut buffer[row * length + start * rows..][..steps * rows];
            // SAFETY: the caller's promise.
            unsafe {
                let a = Mat { data: a.data.add(row + start * a.col_stride), ..a };
                match rows {
                    ROWS_AT_MOST => copy::<T, ROWS_AT_MOST>(to, a),
                    8 => copy::<T, 8>(to, a),
                    7 => copy::<T, 7>(to, a),
                    6 => copy::<T, 6>(to, a),
                    5 => copy::<T, 5>(to, a),
                    4 => copy::<T, 4>(to, a),
                    3 => copy::<T, 3>(to, a),
                    2 => copy::<T, 2>(to, a),
                    _ => copy::<T, 1>(to, a),
                }
            }
            row = end;
        }
    }
}

/// # Safety
/// As [`rows`].
unsafe fn copy<T: Copy, const N: usize>(to: &mut [T], a: Mat<T>) {
    for (l, column) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        // SAFETY: the caller's promise: N adjacent rows.
        *column = unsafe { a.data.add(l * a.col_stride).cast::<[T; N]>().read() };
    }
}
