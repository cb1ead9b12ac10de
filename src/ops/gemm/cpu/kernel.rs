//! What the products of all instruction sets are made of: a tile of the result that stays in registers while it runs
//! down one block of the reduction.

/// A tile: rows of `a`, read in place, times a panel of `b`; operands of T, sums of S.
#[derive(Clone, Copy, Debug)]
pub struct Tile<T, S> {
    /// Its first value; rows are `y_stride` apart, columns adjacent.
    pub y: *mut S,
    pub y_stride: usize,
    /// Its columns; the kernel's vectors may cover more.
    pub columns: usize,
    /// Value (row, l) is `a[row·a_row + l·a_column]`.
    pub a: *const T,
    pub a_row: usize,
    pub a_column: usize,
    /// Rows of whole vectors, `b_row` apart.
    pub b: *const T,
    pub b_row: usize,
    pub k: usize,
    /// What the sums are added to, and how far its rows are apart: `y` itself or anything beside it.
    pub from: Option<(*const S, usize)>,
    /// Times this.
    pub alpha: S,
}

/// `y = from + alpha·Σ_l a·b`, each sum of f32 and f64 one chain of fused multiply-adds from 0 in the order of l, so
/// that all kernels give the same bits.
///
/// # Safety
/// All that the tile names must be inside of live allocations, `y` not shared with other threads, and the processor
/// must have the instructions.
pub type Run<T, S> = unsafe fn(Tile<T, S>);

/// The kernels of one instruction set.
#[derive(Debug)]
pub struct Kernels<T: 'static, S: 'static = T> {
    pub name: &'static str,
    /// Values of a vector.
    pub lanes: usize,
    /// By vectors of a row and by rows, both from 1.
    pub run: &'static [&'static [Run<T, S>]],
    /// Whether pairs of `a` must lie side by side in its rows.
    pub adjacent: bool,
    /// Where there is something faster than copying value by value.
    pub transpose: Option<Transpose<T>>,
}

/// The transpose of a square: to rows so far apart, from rows so far apart.
#[derive(Clone, Copy, Debug)]
pub struct Transpose<T> {
    pub side: usize,
    /// # Safety
    /// As [`Run`].
    pub run: unsafe fn((*mut T, usize), (*const T, usize)),
}

impl<T, S> Kernels<T, S> {
    /// Rows of the largest tile.
    pub fn rows(&self) -> usize {
        self.run[0].len()
    }

    /// Columns of the widest tile.
    pub fn columns(&self) -> usize {
        self.run.len() * self.lanes
    }

    /// First column, columns and whole vectors' columns of every panel of `n` columns.
    pub fn panels(&self, n: usize) -> impl Iterator<Item = (usize, usize, usize)> + use<T, S> {
        let (most, lanes) = (self.columns(), self.lanes);
        (0..n).step_by(most).map(move |column| {
            let columns = most.min(n - column);
            (column, columns, columns.next_multiple_of(lanes))
        })
    }
}

/// Rows of a tile.
pub(super) const ROWS_AT_MOST: usize = 9;

/// The same number, of which the compiler knows nothing.
#[inline(always)]
pub(super) fn opaque(mut number: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) }
    number
}

/// Defines `$name<ROWS, VECTORS>`, a [`Run`], from the vectors of sums and of operands and what is done with them.
macro_rules! micro {
    (
        $(#[$attribute:meta])*
        $name:ident: $value:ty, $lanes:literal, $prefetch:expr,
        sums: $sum:ty, $vector:ty, $zero:expr, $load:expr, $store:expr, $spread:expr, $fma:expr,
        operands: $none:expr, $read:expr, $spread_one:expr, $multiply:expr
    ) => {
        $(#[$attribute])*
        unsafe fn $name<const ROWS: usize, const VECTORS: usize>(tile: Tile<$value, $sum>) {
            /// Steps of the reduction by which operands are asked for before they are read.
            const AHEAD: usize = 16;
            const THIRDS: usize = ROWS_AT_MOST / 3;
            let Tile { y, y_stride, columns, mut a, a_row, a_column, mut b, b_row, k, from, alpha } = tile;
            // SAFETY: the caller's promise for every address; the panel's rows are whole vectors. Prefetching touches
            // nothing.
            unsafe {
                // Rows by threes, whose addresses one instruction has from a base and the distance of rows. Compilers
                // would make one chain of additions of them all, which takes longer than the products.
                let mut bases: [*const $value; THIRDS] = [a; THIRDS];
                each!(third in THIRDS => {
                    bases[third] = a.wrapping_add(opaque(3 * third * a_row));
                });
                let mut sums: [[$vector; VECTORS]; ROWS] = [[$zero; VECTORS]; ROWS];
                for _ in 0..k {
                    let mut values = [$none; VECTORS];
                    $prefetch(a.wrapping_add(AHEAD * a_column));
                    each!(j in VECTORS => {
                        $prefetch(b.wrapping_add(AHEAD * b_row + j * $lanes));
                        values[j] = $read(b.add(j * $lanes));
                    });
                    each!(i in ROWS => {
                        let one = $spread_one(*bases[i / 3].add(i % 3 * a_row));
                        each!(j in VECTORS => {
                            sums[i][j] = $multiply(one, values[j], sums[i][j]);
                        });
                    });
                    each!(third in THIRDS => {
                        bases[third] = bases[third].wrapping_add(a_column);
                    });
                    b = b.wrapping_add(b_row);
                    a = a.wrapping_add(a_column);
                }
                let factor = $spread(alpha);
                if columns == VECTORS * $lanes {
                    each!(i in ROWS => {
                        each!(j in VECTORS => {
                            let before = match from {
                                Some((from, apart)) => $load(from.add(i * apart + j * $lanes)),
                                None => $zero,
                            };
                            $store(y.add(i * y_stride + j * $lanes), $fma(factor, sums[i][j], before));
                        });
                    });
                    return;
                }
                // What the vectors cover beyond the tile does not leave this function.
                let mut row: [[$sum; $lanes]; VECTORS] = [[0.0; $lanes]; VECTORS];
                each!(i in ROWS => {
                    each!(j in VECTORS => {
                        $store(row[j].as_mut_ptr(), sums[i][j]);
                    });
                    for (column, &sum) in row.as_flattened()[..columns].iter().enumerate() {
                        let before = from.map_or(0.0, |(from, apart)| *from.add(i * apart + column));
                        *y.add(i * y_stride + column) = alpha.mul_add(sum, before);
                    }
                });
            }
        }
    };
}

/// The block for every `i` below `$count`, a constant of at most 9, written out: a loop over arrays is one over memory
/// unless the compiler takes great pains.
macro_rules! each {
    ($i:ident in $count:tt => $body:block) => {
        each!(@ $i $count $body 0 1 2 3 4 5 6 7 8)
    };
    (@ $i:ident $count:tt $body:block $($number:literal)*) => {$(
        if $number < $count {
            let $i: usize = $number;
            $body
        }
    )*};
}

/// The tables of [`Kernels`]: `$name<rows, vectors>` of every listed number.
macro_rules! kernels {
    ($name:ident: [$($vectors:literal),*] by $rows:tt) => {
        &[$(kernels!(@rows $name $vectors $rows)),*]
    };
    (@rows $name:ident $vectors:literal [$($rows:literal),*]) => {
        &[$($name::<$rows, $vectors> as $crate::ops::gemm::cpu::kernel::Run<_, _>),*]
    };
}

pub(super) use {each, kernels, micro};
