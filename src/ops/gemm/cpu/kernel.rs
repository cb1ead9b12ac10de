//! What the products of all instruction sets are made of: a tile of the result that stays in registers while it runs
//! down one block of the reduction.

/// A tile: rows of `a`, read in place, times a panel of `b`.
#[derive(Clone, Copy, Debug)]
pub struct Tile<T> {
    /// Its first value; rows are `y_stride` apart, columns adjacent.
    pub y: *mut T,
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
    /// Whether the sums are added to what `y` holds.
    pub keep: bool,
    /// Times this.
    pub alpha: T,
}

/// `y (+)= alpha·Σ_l a·b`, each sum one chain of fused multiply-adds from 0 in the order of l, so that all kernels give
/// the same bits.
///
/// # Safety
/// All that the tile names must be inside of live allocations, `y` not shared with other threads, and the processor
/// must have the instructions.
pub type Run<T> = unsafe fn(Tile<T>);

/// The kernels of one instruction set.
#[derive(Debug)]
pub struct Kernels<T: 'static> {
    pub name: &'static str,
    /// Values of a vector.
    pub lanes: usize,
    /// By vectors of a row and by rows, both from 1.
    pub run: &'static [&'static [Run<T>]],
}

impl<T> Kernels<T> {
    /// Rows of the largest tile.
    pub fn rows(&self) -> usize {
        self.run[0].len()
    }

    /// Columns of the widest tile.
    pub fn columns(&self) -> usize {
        self.run.len() * self.lanes
    }

    /// First column, columns and whole vectors' columns of every panel of `n` columns.
    pub fn panels(&self, n: usize) -> impl Iterator<Item = (usize, usize, usize)> + use<T> {
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

/// Defines `$name<ROWS, VECTORS>`, a [`Run`], from a type of vectors and what is done with them.
macro_rules! micro {
    (
        $(#[$attribute:meta])*
        $name:ident: $value:ty, $vector:ty, $lanes:literal, $zero:expr, $load:expr, $store:expr, $spread:expr, $fma:expr,
        $prefetch:expr
    ) => {
        $(#[$attribute])*
        unsafe fn $name<const ROWS: usize, const VECTORS: usize>(tile: Tile<$value>) {
            /// Rows of a panel that are asked for before they are read.
            const AHEAD: usize = 16;
            const THIRDS: usize = ROWS_AT_MOST / 3;
            let Tile { y, y_stride, columns, a, a_row, a_column, mut b, b_row, k, keep, alpha } = tile;
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
                    let mut values: [$vector; VECTORS] = [$zero; VECTORS];
                    each!(j in VECTORS => {
                        $prefetch(b.wrapping_add(AHEAD * b_row + j * $lanes));
                        values[j] = $load(b.add(j * $lanes));
                    });
                    each!(i in ROWS => {
                        let one = $spread(*bases[i / 3].add(i % 3 * a_row));
                        each!(j in VECTORS => {
                            sums[i][j] = $fma(one, values[j], sums[i][j]);
                        });
                    });
                    each!(third in THIRDS => {
                        bases[third] = bases[third].wrapping_add(a_column);
                    });
                    b = b.wrapping_add(b_row);
                }
                let factor = $spread(alpha);
                if columns == VECTORS * $lanes {
                    each!(i in ROWS => {
                        each!(j in VECTORS => {
                            let at = y.add(i * y_stride + j * $lanes);
                            $store(at, $fma(factor, sums[i][j], if keep { $load(at) } else { $zero }));
                        });
                    });
                    return;
                }
                // What the vectors cover beyond the tile does not leave this function.
                let mut row: [[$value; $lanes]; VECTORS] = [[0.0; $lanes]; VECTORS];
                each!(i in ROWS => {
                    each!(j in VECTORS => {
                        $store(row[j].as_mut_ptr(), sums[i][j]);
                    });
                    let y = std::slice::from_raw_parts_mut(y.add(i * y_stride), columns);
                    for (y, &sum) in y.iter_mut().zip(row.as_flattened()) {
                        *y = alpha.mul_add(sum, if keep { *y } else { 0.0 });
                    }
                });
            }
        }
    };
}

/// The block for every `i` below `$count`, a constant of at most 9, written out: a loop over arrays is one over memory
/// unless the compiler takes great pains.
macro_rules! each {
    ($i:ident in $count:ident => $body:block) => {
        each!(@ $i $count $body 0 1 2 3 4 5 6 7 8)
    };
    (@ $i:ident $count:ident $body:block $($number:literal)*) => {$(
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
        &[$($name::<$rows, $vectors> as $crate::ops::gemm::cpu::kernel::Run<_>),*]
    };
}

pub(super) use {each, kernels, micro};
