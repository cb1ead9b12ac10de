//! How the threads share a product: tasks, of which whoever has finished takes the next one.

use rayon::prelude::*;

use super::pack::first_of;
use super::scalar::{Scalar, Sum};
use super::{PANELS, Product, Right, Target};
use crate::ops::gemm::mat::Threads;
use crate::ops::simd::vectorize;

/// Rows of a task at most; a thread alone packs no panel twice.
const ROWS: usize = 448;

/// Tiles of a task at least, where its rows are what is shared: of what is packed for them, which fewer would read too
/// seldom, and of what is packed for good.
const FEWEST_TILES: [usize; 2] = [10, 2];

/// Tasks for every thread at least, if there is enough for them: who has finished takes from who has not.
const TASKS: usize = 4;

/// Sums of all blocks of the reduction together up to which blocks are tasks: 4 MB, which some cache holds.
const SUMS: usize = 1 << 20;

/// Rows of sums that one thread adds up at least.
const ADDED_ROWS: usize = 16;

/// Below this many FLOPs a second thread costs more than it saves (about 20 µs to wake one).
const PARALLEL_FLOPS: usize = 1 << 22;

impl<T: Scalar> Product<'_, T> {
    /// # Safety
    /// Every element of the operands and the result must be inside a live allocation, no other thread may touch the
    /// result meanwhile, and the processor must have the kernels.
    pub(super) unsafe fn run(self, threads: Threads) {
        let (m, n, k) = self.sizes;
        let blocks = k.div_ceil(T::BLOCK);
        // SAFETY: the caller's promise.
        unsafe {
            match self.b {
                _ if threads == Threads::One || 2 * m * n * k < PARALLEL_FLOPS => self.rows((0, m)),
                Right::Strided(_) if blocks > 2 && blocks * m * n <= SUMS => self.by_blocks(blocks),
                _ => self.by_parts(),
            }
        }
    }

    /// Tasks are rows by columns of the result.
    ///
    /// # Safety
    /// As [`Product::run`].
    unsafe fn by_parts(self) {
        let (m, n, _) = self.sizes;
        let wanted = TASKS * rayon::current_num_threads();
        let (panels, fewest) = (n.div_ceil(self.kernels.columns()), m.div_ceil(ROWS));
        let group = (fewest * panels / wanted).clamp(1, PANELS);
        let across = panels.div_ceil(group);
        let (parts, columns) = (self.parts(wanted.div_ceil(across)).max(fewest), group * self.kernels.columns());
        let shared = &self;
        (0..parts * across).into_par_iter().for_each(|task| {
            let column = task % across * columns;
            // SAFETY: the caller's promise, for a part of the result that is this task's alone.
            unsafe { shared.part(shared.of_parts(task / across, parts), (column, columns.min(n - column))) }
        });
    }

    /// Tasks are blocks of the reduction, each with sums of its own that are then added in order: for a small result of
    /// a long reduction, such as a weight's gradient. What tasks by rows and columns would read, and pack, several
    /// times, these read once.
    ///
    /// # Safety
    /// As [`Product::run`].
    unsafe fn by_blocks(self, blocks: usize) {
        let (m, n, k) = self.sizes;
        let parts = self.parts((TASKS * rayon::current_num_threads()).div_ceil(blocks));
        T::Sum::with_sums(|sums| {
            let sums = first_of(sums, blocks * m * n);
            let shared = &self;
            sums.par_chunks_mut(m * n).enumerate().for_each(|(block, sums)| {
                let start = block * T::BLOCK;
                // SAFETY: the caller's promise, for the operands of this block; its sums are as many as are written.
                unsafe {
                    let b = match shared.b {
                        Right::Strided(b) => Right::Strided(b.from(start, 0)),
                        packed @ Right::Packed(_) => packed,
                    };
                    let target = Target { y: sums.as_mut_ptr(), stride: n, from: None, alpha: T::Sum::ONE };
                    let sizes = (m, n, T::BLOCK.min(k - start));
                    let block = Self { target, a: shared.a.from(0, start), b, sizes, ..*shared };
                    (0..parts).into_par_iter().for_each(|part| block.rows(block.of_parts(part, parts)));
                }
            });
            let sums = &*sums;
            (0..m).into_par_iter().with_min_len(ADDED_ROWS).for_each(|row| {
                // SAFETY: the caller's promise, for this row of the result.
                unsafe { shared.add_up(row, &sums[row * n..]) }
            });
        });
    }

    /// A row of the result, from the sums of every block, rows of which are as far apart as blocks are large.
    ///
    /// # Safety
    /// As [`Product::run`].
    unsafe fn add_up(&self, row: usize, sums: &[T::Sum]) {
        let ((m, n, _), Target { y, stride, from, alpha }) = (self.sizes, self.target);
        // SAFETY: the caller's promise; where the row begins from itself nothing is borrowed twice.
        let y = unsafe {
            let y = y.add(row * stride);
            match from.map(|(from, apart)| from.add(row * apart)) {
                Some(from) if from == y.cast_const() => {}
                Some(from) => y.copy_from_nonoverlapping(from, n),
                None => y.write_bytes(0, n),
            }
            std::slice::from_raw_parts_mut(y, n)
        };
        vectorize(
            #[inline(always)]
            || {
                for sums in sums.chunks(m * n) {
                    y.iter_mut().zip(&sums[..n]).for_each(|(y, &sum)| *y = alpha.times_plus(sum, *y));
                }
            },
        );
    }

    /// Parts of the rows, up to `wanted`.
    fn parts(&self, wanted: usize) -> usize {
        let fewest = FEWEST_TILES[usize::from(matches!(self.b, Right::Packed(_)))];
        wanted.min(self.sizes.0.div_ceil(self.kernels.rows()) / fewest).max(1)
    }

    /// The first row of a part, and its rows: whole tiles but for the last.
    fn of_parts(&self, part: usize, parts: usize) -> (usize, usize) {
        let (m, high) = (self.sizes.0, self.kernels.rows());
        let begin = |part: usize| (m.div_ceil(high) * part / parts * high).min(m);
        (begin(part), begin(part + 1) - begin(part))
    }
}
