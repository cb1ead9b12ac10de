//! 3×3 convolution with padding 1, stride 1 or 2, of NHWC images, optionally of their nearest-neighbour enlargement:
//! implicit GEMM.
//!
//! The matrix of shifted pixels `[N·H·W, 9·C]` never exists: a tile of it (at most `ROWS` rows by `DEPTH` columns, half
//! a megabyte, one per thread) is gathered while the matrix product consumes it. Enlargement is folded into the gather:
//! an index map, no enlarged image.
//!
//! FLOPs: 2·N·H·W·9·C·Cout. Bytes: x, y and the weights once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use std::cell::Cell;

use rayon::prelude::*;

use super::gemm::{self, Threads};
use super::packed::{Packed, Start};

/// Rows (output pixels) of a tile.
const ROWS: usize = 256;
/// Columns (input values) of a tile: the block length of the reduction in [`super::gemm`], so sums are cut at the same
/// places.
const DEPTH: usize = gemm::BLOCK;

/// Sizes of the input, and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    /// Input channels C.
    pub channels: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Height and width to which the input is enlarged first (source index = ⌊i·in/out⌋).
    pub enlarge: Option<(usize, usize)>,
}

impl Shape {
    /// Stride 1, no enlargement.
    pub fn same(n: usize, height: usize, width: usize, channels: usize) -> Self {
        Self { n, height, width, channels, stride: 1, enlarge: None }
    }

    /// Height and width of the convolved image before striding.
    fn canvas(self) -> (usize, usize) {
        self.enlarge.unwrap_or((self.height, self.width))
    }

    /// Height and width of the output.
    pub fn output(self) -> (usize, usize) {
        let (height, width) = self.canvas();
        (height.div_ceil(self.stride), width.div_ceil(self.stride))
    }

    /// Output pixels of all images.
    pub fn rows(self) -> usize {
        let (height, width) = self.output();
        self.n * height * width
    }

    /// FLOPs of a convolution to `outputs` channels.
    pub fn flops(self, outputs: usize) -> f64 {
        2.0 * self.rows() as f64 * 9.0 * self.channels as f64 * outputs as f64
    }

    /// Bytes moved at least.
    pub fn bytes(self, outputs: usize) -> f64 {
        let input = self.n * self.height * self.width * self.channels;
        4.0 * (input + self.rows() * outputs + 9 * self.channels * outputs) as f64
    }
}

thread_local! {
    /// The tile of this thread. Taken while in use, so that a task stolen in between gets its own.
    static TILE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `y [N, H', W', Cout] = start + conv3×3(x [N, H, W, C])`, with `w` from [`Packed::from_conv3x3`].
pub fn forward(y: &mut [f32], x: &[f32], w: &Packed, start: Start<'_>, shape: Shape, threads: Threads) {
    let (rows, n) = (shape.rows(), w.n);
    let pixels = shape.n * shape.height * shape.width;
    assert!(
        y.len() == rows * n
            && x.len() == pixels * shape.channels
            && w.k == 9 * shape.channels
            && matches!(shape.stride, 1 | 2),
        "conv: x {} y {} w {}×{} do not fit {shape:?}",
        x.len(),
        y.len(),
        w.k,
        n
    );
    let geometry = Geometry::new(shape);
    if threads == Threads::One {
        for (i, y) in y.chunks_mut(ROWS * n).enumerate() {
            tile(y, x, w, start, &geometry, i * ROWS, Threads::One);
        }
        return;
    }
    let share = rows.div_ceil(rayon::current_num_threads()).next_multiple_of(16).min(ROWS);
    if share < 32 {
        return tile(y, x, w, start, &geometry, 0, Threads::All);
    }
    y.par_chunks_mut(share * n).enumerate().for_each(|(i, y)| tile(y, x, w, start, &geometry, i * share, Threads::One));
}

/// Some rows of the output.
fn tile(y: &mut [f32], x: &[f32], w: &Packed, start: Start<'_>, geometry: &Geometry, row0: usize, threads: Threads) {
    let (k, n) = (w.k, w.n);
    let rows = y.len() / n;
    let mut accumulate = w.start(y, start, row0);
    let mut buffer = TILE.take();
    for k0 in (0..k).step_by(DEPTH) {
        let depth = (k - k0).min(DEPTH);
        if buffer.len() < rows * depth {
            buffer.resize(rows * depth, 0.0);
        }
        let columns = &mut buffer[..rows * depth];
        geometry.gather(columns, x, row0, k0, depth);
        gemm::packed(y, columns, w.w.block(k0), accumulate, threads);
        accumulate = true;
    }
    TILE.set(buffer);
}

/// Where the pixels of the convolved canvas lie in the input.
struct Geometry {
    shape: Shape,
    output: (usize, usize),
    /// Input row of canvas row − 1, and input column of canvas column − 1; `usize::MAX` is padding.
    rows: Vec<usize>,
    cols: Vec<usize>,
}

const PADDING: usize = usize::MAX;

impl Geometry {
    fn new(shape: Shape) -> Self {
        let (height, width) = shape.canvas();
        let map = |source: usize, canvas: usize| {
            let inside = (0..canvas).map(|i| i * source / canvas);
            std::iter::once(PADDING).chain(inside).chain(std::iter::once(PADDING)).collect()
        };
        Self { shape, output: shape.output(), rows: map(shape.height, height), cols: map(shape.width, width) }
    }

    /// Columns `k0..k0 + depth` of the rows from `row0` of the matrix of shifted pixels.
    fn gather(&self, out: &mut [f32], x: &[f32], row0: usize, k0: usize, depth: usize) {
        let Shape { height, width, channels: c, stride, enlarge, .. } = self.shape;
        let (out_height, out_width) = self.output;
        let k1 = k0 + depth;
        let (mut oy, mut ox) = (row0 / out_width % out_height, row0 % out_width);
        let mut image = row0 / (out_width * out_height);
        for out in out.chunks_exact_mut(depth) {
            let cols = &self.cols[ox * stride..ox * stride + 3];
            let adjacent = enlarge.is_none() && cols[0] != PADDING && cols[2] != PADDING;
            for ky in k0 / (3 * c)..=(k1 - 1) / (3 * c) {
                let iy = self.rows[oy * stride + ky];
                if iy == PADDING {
                    copy(out, (k0, k1), ky * 3 * c, None, 3 * c);
                    continue;
                }
                let line = (image * height + iy) * width;
                if adjacent {
                    let from = (line + cols[0]) * c;
                    copy(out, (k0, k1), ky * 3 * c, Some(&x[from..from + 3 * c]), 3 * c);
                    continue;
                }
                for (kx, &ix) in cols.iter().enumerate() {
                    let source = (ix != PADDING).then(|| &x[(line + ix) * c..(line + ix + 1) * c]);
                    copy(out, (k0, k1), (ky * 3 + kx) * c, source, c);
                }
            }
            ox += 1;
            if ox == out_width {
                (ox, oy) = (0, oy + 1);
                if oy == out_height {
                    (oy, image) = (0, image + 1);
                }
            }
        }
    }
}

/// The part inside columns `k0..k1` of a run of `length` values that starts at column `at`; `None` writes zeros.
#[inline(always)]
pub(super) fn copy(out: &mut [f32], (k0, k1): (usize, usize), at: usize, source: Option<&[f32]>, length: usize) {
    let (lo, hi) = (at.max(k0), (at + length).min(k1));
    if lo < hi {
        let out = &mut out[lo - k0..hi - k0];
        match source {
            Some(source) => out.copy_from_slice(&source[lo - at..hi - at]),
            None => out.fill(0.0),
        }
    }
}
