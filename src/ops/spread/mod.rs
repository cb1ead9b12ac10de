//! What of a transposed convolution 2×2 of stride 2 (PyTorch's `conv_transpose2d`) is behind its product: every row of
//! `x [N·S², 4·C]`, in the order (row, column, channel), becomes 2×2 pixels of `y [N, 2·S, 2·S, C]`, plus the bias.
//! With the weight `[I, C, 2, 2]` kept as `[2, 2, C, I]`, the product before is a linear layer without bias.
//!
//! FLOPs: one per value. Bytes: [`Shape::bytes`].

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::reduce::{add, add_column_sums};
use super::simd::vectorize;

/// Sizes: `n` maps of `side²` pixels before, `c` channels behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub side: usize,
    pub c: usize,
}

impl Shape {
    /// Values before and behind, which are as many.
    pub fn len(self) -> usize {
        4 * self.n * self.side * self.side * self.c
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes moved either way, with values of `size` bytes.
    pub fn bytes(self, size: usize) -> f64 {
        (2 * size * self.len()) as f64
    }

    pub(super) fn check(self, x: usize, y: usize, bias: Option<usize>) {
        assert!(x > 0 && [x, y] == [self.len(); 2], "spread: {x} to {y} of {self:?}");
        assert!(bias.is_none_or(|bias| bias == self.c), "spread: bias {bias:?} of {self:?}");
    }

    /// Where in x the values of the pixel of y lie whose number, counted over all maps, is `pixel`.
    fn place(self, pixel: usize) -> usize {
        let (row, column) = (pixel / (2 * self.side), pixel % (2 * self.side));
        ((row / 2 * self.side + column / 2) * 4 + row % 2 * 2 + column % 2) * self.c
    }
}

/// `y [N, 2·S, 2·S, C]` of `x [N·S², 4·C]` and `bias [C]`.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(y: &mut [f32], x: &[f32], bias: Option<&[f32]>, shape: Shape) {
    shape.check(x.len(), y.len(), bias.map(<[f32]>::len));
    let line = 2 * shape.side;
    y.par_chunks_exact_mut(line * shape.c).enumerate().for_each(|(row, y)| {
        for (column, y) in y.chunks_exact_mut(shape.c).enumerate() {
            y.copy_from_slice(&x[shape.place(row * line + column)..][..shape.c]);
            if let Some(bias) = bias {
                vectorize(
                    #[inline(always)]
                    || add(y, bias),
                );
            }
        }
    });
}

/// `dx [N·S², 4·C]` from the gradient `dy [N, 2·S, 2·S, C]`; adds the gradient of the bias to `dbias [C]`.
///
/// # Panics
/// If lengths do not fit.
pub fn backward(dx: &mut [f32], dbias: Option<&mut [f32]>, dy: &[f32], shape: Shape) {
    shape.check(dx.len(), dy.len(), dbias.as_deref().map(<[f32]>::len));
    let Shape { side, c, .. } = shape;
    // Two lines of pixels of dy are a run of dx.
    dx.par_chunks_exact_mut(4 * side * c).zip(dy.par_chunks_exact(4 * side * c)).for_each(|(dx, dy)| {
        for (pixel, dy) in dy.chunks_exact(c).enumerate() {
            dx[shape.place(pixel)..][..c].copy_from_slice(dy);
        }
    });
    if let Some(dbias) = dbias {
        add_column_sums(dbias, dy);
    }
}
