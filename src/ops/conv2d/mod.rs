//! Convolution by a kernel of any height, width, stride and padding, of NHWC images in f32: implicit GEMM as in
//! [`conv`](super::conv), which has the 3×3 kernels of diffusion in 16 bits too. On CUDA maps are kept as two bf16
//! halves.
//!
//! FLOPs: 2·N·H'·W'·kh·kw·C·Cout. Bytes: x, y and the weights once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::cell::Cell;

use rayon::prelude::*;

use super::conv::copy;
use super::gemm::{self, Begin, Threads};
use super::packed::{Packed, Start};

/// Rows (output pixels) of a tile.
const ROWS: usize = 256;

/// Columns (input values) of a tile: the block length of the reduction in [`super::gemm`], so sums are cut at the same
/// places.
const DEPTH: usize = gemm::BLOCK;

/// What slides over a map: its height and width, steps and the border of zeros (above and below, left and right).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub kernel: (usize, usize),
    pub stride: usize,
    pub padding: (usize, usize),
}

impl Window {
    /// An odd kernel whose result is as large as what it reads.
    pub const fn same(height: usize, width: usize) -> Self {
        Self { kernel: (height, width), stride: 1, padding: (height / 2, width / 2) }
    }

    /// A square kernel that stays inside.
    pub const fn inside(side: usize, stride: usize) -> Self {
        Self { kernel: (side, side), stride, padding: (0, 0) }
    }

    /// Places under the kernel.
    pub const fn taps(self) -> usize {
        self.kernel.0 * self.kernel.1
    }
}

/// Sizes of the input, and what slides over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    /// Input channels C.
    pub channels: usize,
    pub window: Window,
}

impl Shape {
    /// Height and width of the output.
    ///
    /// # Panics
    /// When the padded input is smaller than the kernel.
    pub fn output(self) -> (usize, usize) {
        let Window { kernel, stride, padding } = self.window;
        let side = |side: usize, kernel: usize, padding: usize| (side + 2 * padding - kernel) / stride + 1;
        (side(self.height, kernel.0, padding.0), side(self.width, kernel.1, padding.1))
    }

    /// Output pixels of all images.
    pub fn rows(self) -> usize {
        let (height, width) = self.output();
        self.n * height * width
    }

    /// Values of the input.
    pub fn inputs(self) -> usize {
        self.n * self.height * self.width * self.channels
    }
}

thread_local! {
    /// The tile of this thread. Taken while in use, so that a task stolen in between gets its own.
    static TILE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `y [N, H', W', Cout] = bias + convolution(x [N, H, W, C])`, with `w` from [`Packed::from_conv`].
pub fn forward(y: &mut [f32], x: &[f32], w: &Packed, shape: Shape) {
    let n = w.n;
    assert!(
        y.len() == shape.rows() * n && x.len() == shape.inputs() && w.k == shape.window.taps() * shape.channels,
        "conv2d: x {} y {} w {}×{n} do not fit {shape:?}",
        x.len(),
        y.len(),
        w.k
    );
    y.par_chunks_mut(ROWS * n).enumerate().for_each(|(i, y)| {
        let rows = y.len() / n;
        let mut begin = Start::Bias.begin(y, w.bias.as_deref(), n, 0);
        let mut tile = TILE.take();
        for k0 in (0..w.k).step_by(DEPTH) {
            let depth = (w.k - k0).min(DEPTH);
            if tile.len() < rows * depth {
                tile.resize(rows * depth, 0.0);
            }
            let columns = &mut tile[..rows * depth];
            gather(columns, x, shape, i * ROWS, (k0, k0 + depth));
            gemm::packed(y, columns, w.f32().block(k0), begin, Threads::One);
            begin = Begin::Result;
        }
        TILE.set(tile);
    });
}

/// Columns `k0..k1` of the rows from `row0` of the matrix of shifted pixels.
fn gather(out: &mut [f32], x: &[f32], shape: Shape, row0: usize, (k0, k1): (usize, usize)) {
    let Shape { height, width, channels: c, window: Window { kernel, stride, padding }, .. } = shape;
    let (out_height, out_width) = shape.output();
    let line = kernel.1 * c;
    for (row, out) in (row0..).zip(out.chunks_exact_mut(k1 - k0)) {
        let (image, oy, ox) = (row / out_width / out_height, row / out_width % out_height, row % out_width);
        // Positions in the padded map.
        let (top, left) = (oy * stride, ox * stride);
        let whole = left >= padding.1 && left + kernel.1 <= width + padding.1;
        for ky in k0 / line..=(k1 - 1) / line {
            let y = (top + ky).checked_sub(padding.0).filter(|&y| y < height);
            let Some(y) = y else {
                copy(out, (k0, k1), ky * line, None, line);
                continue;
            };
            let begin = (image * height + y) * width;
            if whole {
                let from = (begin + left - padding.1) * c;
                copy(out, (k0, k1), ky * line, Some(&x[from..from + line]), line);
                continue;
            }
            for kx in 0..kernel.1 {
                let column = (left + kx).checked_sub(padding.1).filter(|&column| column < width);
                let source = column.map(|column| &x[(begin + column) * c..(begin + column + 1) * c]);
                copy(out, (k0, k1), ky * line + kx * c, source, c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gemm::Operands;

    /// Small whole numbers: every order of sums gives the same bits.
    fn values(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + seed * 11) % 13) as f32 - 6.0).collect()
    }

    #[test]
    fn convolutions_are_those_of_the_definition() {
        let windows = [Window::same(1, 7), Window::same(7, 1), Window::same(5, 5), Window::inside(3, 2)];
        for (window, channels, outputs) in windows.into_iter().zip([90, 3, 48, 7]).map(|(w, c)| (w, c, 5)) {
            let shape = Shape { n: 2, height: 17, width: 12, channels, window };
            let (x, taps) = (values(shape.inputs(), 1), window.taps());
            let (w, bias) = (values(outputs * channels * taps, 2), values(outputs, 3));
            let mut y = vec![0.0; shape.rows() * outputs];
            forward(
                &mut y,
                &x,
                &Packed::from_conv(&w, Some(bias.clone()), (channels, outputs), taps, Operands::F32),
                shape,
            );
            let (height, width) = shape.output();
            for (at, &got) in y.iter().enumerate() {
                let (o, pixel) = (at % outputs, at / outputs);
                let (image, oy, ox) = (pixel / width / height, pixel / width % height, pixel % width);
                let mut want = bias[o];
                for tap in 0..taps {
                    let y = (oy * window.stride + tap / window.kernel.1).wrapping_sub(window.padding.0);
                    let x_ = (ox * window.stride + tap % window.kernel.1).wrapping_sub(window.padding.1);
                    if y < shape.height && x_ < shape.width {
                        for c in 0..channels {
                            let pixel = (image * shape.height + y) * shape.width + x_;
                            want += x[pixel * channels + c] * w[(o * channels + c) * taps + tap];
                        }
                    }
                }
                assert_eq!(got, want, "{shape:?} at {at}");
            }
        }
    }
}
