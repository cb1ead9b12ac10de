//! Launches of `kernels/pool.cu`.

use super::Pool;
use crate::device::cuda::kernels::PoolKernel;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::conv2d::Shape;
use crate::ops::conv2d::cuda::Geometry;
use crate::ops::halves::{self, Columns};

/// Threads of a block, each with a quarter of a piece.
const THREADS: usize = 256;

/// Blocks for so many pieces.
fn quarters(pieces: usize) -> Launch {
    assert!(4 * pieces < 1 << 31, "pool: {pieces} pieces are too many");
    Launch::new((4 * pieces).div_ceil(THREADS), THREADS as u32)
}

/// [`super::forward`] of maps that are split; `y` may be columns of wider maps.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(gpu: &Gpu, y: Columns, x: View<u32>, pool: Pool, shape: Shape) -> Result<()> {
    let (Shape { n, height, width, channels, .. }, rows) = (shape, shape.rows());
    assert!(
        y.channels == channels && x.len() == halves::words(n * height * width, channels),
        "pool: x and y of {shape:?}"
    );
    assert!(y.rows.is_aligned(16) && x.is_aligned(16), "pool: alignment of {y:?}, {x:?}");
    let [first, line] = y.place(rows).map(|v| v as u32);
    let (y, pieces) = (y.rows, halves::pieces(channels));
    let (at, pieces) = (quarters(rows * pieces), pieces as u32);
    let Geometry { rows, height, width, out_height, out_width, kernel_height, kernel_width, stride, top, left } =
        Geometry::of(shape);
    let kernel = match pool {
        Pool::Max => PoolKernel::Max,
        Pool::Average => PoolKernel::Average,
    };
    kernels::Pool {
        y,
        x,
        rows,
        height,
        width,
        pieces,
        out_height,
        out_width,
        kernel_height,
        kernel_width,
        stride,
        top,
        left,
        first,
        line,
    }
    .launch(gpu, at, kernel)
}

/// Means `y [N, C]` in f32 of maps `x [N, pixels, C]` that are split.
///
/// # Panics
/// If lengths do not fit.
pub fn mean(gpu: &Gpu, y: View<f32>, x: View<u32>, pixels: usize, channels: usize) -> Result<()> {
    let (images, pieces) = (y.len() / channels, halves::pieces(channels));
    assert!(
        y.len() == images * channels && x.len() == halves::words(images * pixels, channels) && x.is_aligned(16),
        "pool: {images} means of {pixels} pixels of {channels} channels"
    );
    let at = quarters(images * pieces);
    let [images, pixels, channels, pieces] = [images, pixels, channels, pieces].map(|v| v as u32);
    kernels::PoolMean { y, x, images, pixels, channels, pieces }.launch(gpu, at)
}
