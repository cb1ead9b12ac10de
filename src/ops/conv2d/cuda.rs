//! Launches of `kernels/conv2d.cu`.

use super::Shape;
use crate::device::cuda::kernels::conv2d::{ROW_SHARED, TILE_ROWS, TILE_THREADS};
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::halves::{self, Columns};
use crate::ops::packed::Packed;

/// Output channels of a tile.
const TILES: [usize; 2] = [96, 64];

/// The weights of a layer on the device.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// [`operand`].
    pub w: View<u32>,
    pub bias: View<f32>,
}

/// Weights `[K, N]`, K = (ky, kx, c) of `channels`, as kernels read them: `[N, taps]` rows of halves.
pub fn operand(w: &Packed, channels: usize) -> Vec<u32> {
    let rows = w.f32().unpacked();
    let by_output: Vec<f32> = (0..w.n).flat_map(|o| rows[o..].iter().step_by(w.n).copied()).collect();
    halves::split(&by_output, channels)
}

/// The tile that leaves the fewest columns empty.
fn tile(outputs: usize) -> usize {
    TILES.into_iter().min_by_key(|tile| outputs.next_multiple_of(*tile)).unwrap_or(TILES[0])
}

/// Sizes and window as the kernels over windows take them.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Geometry {
    pub rows: u32,
    pub height: u32,
    pub width: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub kernel_height: u32,
    pub kernel_width: u32,
    pub stride: u32,
    pub top: u32,
    pub left: u32,
}

impl Geometry {
    /// # Panics
    /// If pixels do not fit 28 bits, which the kernels count eighths of pieces for.
    pub fn of(shape: Shape) -> Self {
        let (Shape { n, height, width, window, .. }, rows, (out_height, out_width)) =
            (shape, shape.rows(), shape.output());
        assert!(rows.max(n * height * width) < 1 << 28, "conv2d: {shape:?} is too large");
        let [height, width, out_height, out_width] = [height, width, out_height, out_width].map(|v| v as u32);
        let [kernel_height, kernel_width] = [window.kernel.0, window.kernel.1].map(|v| v as u32);
        let [top, left, stride] = [window.padding.0, window.padding.1, window.stride].map(|v| v as u32);
        let rows = rows as u32;
        Self { rows, height, width, out_height, out_width, kernel_height, kernel_width, stride, top, left }
    }
}

/// `y [N, H', W', O] = max(0, bias + convolution(x [N, H, W, C]))`, both split; `y` may be columns of wider maps.
///
/// # Panics
/// If lengths do not fit.
pub fn forward(gpu: &Gpu, y: Columns, x: View<u32>, weights: Weights, shape: Shape) -> Result<()> {
    let (Shape { n, height, width, channels, window }, outputs) = (shape, y.channels);
    let (rows, pieces) = (shape.rows(), halves::pieces(channels));
    assert_eq!(x.len(), halves::words(n * height * width, channels), "conv2d: x of {shape:?}");
    let Weights { w, bias } = weights;
    assert!(
        w.len() == halves::words(outputs * window.taps(), channels) && bias.len() == outputs,
        "conv2d: {weights:?} for {shape:?} to {outputs}"
    );
    assert!(y.rows.is_aligned(16) && x.is_aligned(16) && w.is_aligned(16), "conv2d: alignment of {y:?}, {x:?}");
    let ([first, line], tile) = (y.place(rows), tile(outputs));
    let at = Launch::grid([rows.div_ceil(TILE_ROWS), outputs.div_ceil(tile), 1], TILE_THREADS as u32)
        .shared((TILE_ROWS + tile) * ROW_SHARED);
    let [outputs, pieces, first, line] = [outputs, pieces, first, line].map(|v| v as u32);
    let Geometry { rows, height, width, out_height, out_width, kernel_height, kernel_width, stride, top, left } =
        Geometry::of(shape);
    kernels::Conv2dForward {
        y: y.rows,
        x,
        w,
        bias,
        rows,
        outputs,
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
    .launch(gpu, at, tile)
}

/// Rows `y [N·H'·W', taps·C]`, split, of pictures `x [N, H, W, C]` in f32: what lies under the kernel. A convolution
/// without a window of them, with weights whose channels are the taps' too, is the convolution of the pictures.
///
/// # Panics
/// If lengths do not fit, or more than a piece lies under the kernel.
pub fn pixels(gpu: &Gpu, y: View<u32>, x: View<f32>, shape: Shape) -> Result<()> {
    let (Shape { channels, window, .. }, rows) = (shape, shape.rows());
    let under = window.taps() * channels;
    assert!(halves::pieces(under) == 1 && x.len() == shape.inputs(), "conv2d: pixels of {shape:?}");
    assert!(y.len() == halves::words(rows, under) && y.is_aligned(16), "conv2d: {y:?} for {rows} rows");
    let at = Launch::new((4 * rows).div_ceil(256), 256);
    let (channels, geometry) = (channels as u32, Geometry::of(shape));
    let Geometry { rows, height, width, out_height, out_width, kernel_height, kernel_width, stride, top, left } =
        geometry;
    kernels::Conv2dPixels {
        y,
        x,
        rows,
        height,
        width,
        channels,
        out_height,
        out_width,
        kernel_height,
        kernel_width,
        stride,
        top,
        left,
    }
    .launch(gpu, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_leave_few_columns_empty() {
        let chosen = [32, 48, 64, 80, 96, 128, 160, 192, 320, 384, 448].map(tile);
        assert_eq!(chosen, [64, 64, 64, 96, 96, 64, 96, 96, 64, 96, 64]);
    }
}
