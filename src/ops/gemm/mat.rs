//! What products are given.

/// Whether one product may use the whole thread pool or must stay on the calling thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threads {
    All,
    One,
}

/// A strided read-only matrix: element (r, c) is `data[r·row_stride + c·col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<T = f32> {
    pub data: *const T,
    pub row_stride: usize,
    pub col_stride: usize,
}

// SAFETY: what is behind the pointer is only read.
unsafe impl<T: Sync> Sync for Mat<T> {}

impl<T> Mat<T> {
    /// Row-major `[_, cols]`.
    pub fn rows(data: &[T], cols: usize) -> Self {
        Self { data: data.as_ptr(), row_stride: cols, col_stride: 1 }
    }

    /// From an element of it on.
    ///
    /// # Safety
    /// It must be inside of the allocation.
    pub unsafe fn from(self, row: usize, column: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { data: self.data.add(row * self.row_stride + column * self.col_stride), ..self } }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}
