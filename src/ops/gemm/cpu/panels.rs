//! The right operand of many products, such as a layer's weights: packed once, as the kernels of this processor stream
//! it.

use rayon::prelude::*;

use super::kernel::Kernels;
use super::pack;
use super::scalar::Scalar;
use crate::ops::gemm::mat::Mat;

/// A matrix `[K, N]` as panels of some columns, block after block of the reduction; zeros behind the last column.
#[derive(Clone, Debug)]
pub struct Panels<T: Scalar = f32> {
    k: usize,
    n: usize,
    values: Vec<T>,
    kernels: &'static Kernels<T, T::Sum>,
}

/// All rows of [`Panels`], or those of one block of the reduction.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T: Scalar = f32> {
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) values: &'a [T],
    pub(super) kernels: &'static Kernels<T, T::Sum>,
}

impl<T: Scalar> Rows<'_, T> {
    pub fn k(self) -> usize {
        self.k
    }

    pub fn n(self) -> usize {
        self.n
    }
}

impl<T: Scalar> Panels<T> {
    /// From rows `[K, N]`.
    ///
    /// # Panics
    /// If there are not K·N values.
    pub fn new(b: &[T], k: usize, n: usize) -> Self {
        assert_eq!(b.len(), k * n, "panels: {} values for {k} × {n}", b.len());
        // SAFETY: the assertion proved that the slice holds the whole matrix.
        unsafe { Self::of(Mat::rows(b, n), k, n) }
    }

    /// From a matrix `[K, N]` that lies in any order.
    ///
    /// # Safety
    /// Every element of it must be inside a live allocation.
    pub(in crate::ops) unsafe fn of(b: Mat<T>, k: usize, n: usize) -> Self {
        let kernels = T::kernels();
        let wide = n.next_multiple_of(kernels.lanes);
        let mut values = vec![T::default(); k * wide];
        let mut panels = Vec::new();
        for (block, mut rest) in values.chunks_mut(T::BLOCK * wide).enumerate() {
            let length = rest.len() / wide;
            for (column, columns, width) in kernels.panels(n) {
                let (panel, behind) = rest.split_at_mut(length * width);
                panels.push((panel, block * T::BLOCK, column, (columns, width)));
                rest = behind;
            }
        }
        // By all threads: whoever writes a page first has it in the memory of its own socket, so that many sockets
        // share what all of them will read.
        panels.into_par_iter().for_each(|(panel, start, column, sizes)| {
            // SAFETY: as many rows from `start`, and columns from `column`, lie inside of the matrix.
            unsafe { pack::panel(panel, b.from(start, column), sizes, kernels.transpose) }
        });
        Self { k, n, values, kernels }
    }

    pub fn k(&self) -> usize {
        self.k
    }

    pub fn n(&self) -> usize {
        self.n
    }

    /// The whole matrix.
    pub fn all(&self) -> Rows<'_, T> {
        Rows { k: self.k, n: self.n, values: &self.values, kernels: self.kernels }
    }

    /// The rows from `start` on, one block of the reduction.
    ///
    /// # Panics
    /// If no block begins there.
    pub fn block(&self, start: usize) -> Rows<'_, T> {
        assert!(start < self.k && start.is_multiple_of(T::BLOCK), "panels: no block of {} begins at {start}", self.k);
        let (wide, k) = (self.n.next_multiple_of(self.kernels.lanes), T::BLOCK.min(self.k - start));
        Rows { k, values: &self.values[start * wide..(start + k) * wide], ..self.all() }
    }

    /// The rows `[K, N]`.
    pub fn unpacked(&self) -> Vec<T> {
        let mut all = vec![T::default(); self.k * self.n];
        let mut values = &self.values[..];
        for start in (0..self.k).step_by(T::BLOCK) {
            let length = T::BLOCK.min(self.k - start);
            for (column, columns, width) in self.kernels.panels(self.n) {
                let (panel, behind) = values.split_at(length * width);
                for (l, row) in panel.chunks_exact(width).enumerate() {
                    let at = (start + l) * self.n + column;
                    all[at..at + columns].copy_from_slice(&row[..columns]);
                }
                values = behind;
            }
        }
        all
    }
}
