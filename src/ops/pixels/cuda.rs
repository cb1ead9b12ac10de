//! Launches of `kernels/pixels.cu`.

use crate::device::cuda::kernels::pixels::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;

/// Rows per block of a resize, one per warp.
const ROWS: usize = THREADS / 32;

/// Bit of a picture's flags: a value was infinite or not a number.
pub const NOT_FINITE: u32 = kernels::pixels::NOT_FINITE as u32;
/// Bit of a picture's flags: two of its pixels differ, as they do in every picture worth keeping.
pub const NOT_CONSTANT: u32 = kernels::pixels::NOT_CONSTANT as u32;

/// A thread per `each` pixels.
fn plan_rgb8(n: usize, pixels: usize, each: usize) -> Launch {
    Launch::grid([pixels.div_ceil(THREADS * each), n, 1], THREADS as u32)
}

/// `y [n, pixels, 3]` from `x`, as [`super::to_u8`]; `flags [n]`, which start at zero, collect [`NOT_FINITE`] and
/// [`NOT_CONSTANT`].
///
/// # Panics
/// If the lengths do not fit.
pub fn to_u8(gpu: &Gpu, y: View<u8>, flags: View<u32>, x: View<f32>) -> Result<()> {
    let n = flags.len();
    let pixels = x.len() / (3 * n.max(1));
    assert!(n > 0 && n < 1 << 16 && pixels > 0 && pixels < 1 << 29, "pixels: {n} pictures of {pixels} pixels");
    assert!(x.len() == 3 * n * pixels && y.len() == x.len(), "pixels: x {}, y {}, {n} pictures", x.len(), y.len());
    let vectors = pixels.is_multiple_of(4) && x.is_aligned(16) && y.is_aligned(4);
    let each = if vectors { 4 } else { 1 };
    kernels::PixelsRgb8 { y, flags, x, pixels: pixels as u32 }.launch(gpu, plan_rgb8(n, pixels, each), each)
}

/// `n` pictures of one size brought to another; sizes are (width, height).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    pub n: usize,
    pub from: (usize, usize),
    pub to: (usize, usize),
    /// Change the height before the width, as `image::columns_first` says.
    pub columns_first: bool,
}

impl Resize {
    fn wide(self) -> bool {
        self.from.0 != self.to.0
    }

    fn high(self) -> bool {
        self.from.1 != self.to.1
    }

    /// Size after the first of two passes.
    fn middle(self) -> (usize, usize) {
        if self.columns_first { (self.from.0, self.to.1) } else { (self.to.0, self.from.1) }
    }

    /// Bytes that [`resize`] needs between its passes; none when one axis or both stay.
    pub fn between_len(self) -> usize {
        if self.wide() && self.high() { 3 * self.n * self.middle().0 * self.middle().1 } else { 0 }
    }
}

/// The weights of both axes, as `image::weight_table` makes them; not read for an axis that stays.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    pub along: View<i32>,
    pub across: View<i32>,
}

/// `y [n, to.1, to.0, 3]` from `x [n, from.1, from.0, 3]`, with the bits of `image::resize`.
///
/// # Panics
/// If the lengths do not fit.
pub fn resize(gpu: &Gpu, y: View<u8>, between: View<u8>, x: View<u8>, tables: Tables, shape: Resize) -> Result<()> {
    let Resize { n, from, to, .. } = shape;
    let len = |(width, height): (usize, usize)| 3 * n * width * height;
    assert!(
        n > 0 && n < 1 << 16 && len(from) > 0 && len(to) > 0 && 3 * from.0.max(to.0) < 1 << 31,
        "resize: {shape:?}"
    );
    assert!(x.len() == len(from) && y.len() == len(to) && between.len() >= shape.between_len(), "resize: {shape:?}");
    let fits = |table: View<i32>, outputs: usize| table.len() > 2 * outputs && table.len().is_multiple_of(outputs);
    assert!(!shape.wide() || fits(tables.along, to.0), "resize: weights along {shape:?}");
    assert!(!shape.high() || fits(tables.across, to.1), "resize: weights across {shape:?}");
    let along = |y, x, height| along(gpu, y, x, tables.along, n * height, from.0, to.0);
    let across = |y, x, width| across(gpu, y, x, tables.across, n, width, (from.1, to.1));
    let between = between.slice(0..shape.between_len());
    match (shape.wide(), shape.high()) {
        (true, true) if shape.columns_first => {
            across(between, x, from.0)?;
            along(y, between, to.1)
        }
        (true, true) => {
            along(between, x, from.1)?;
            across(y, between, to.0)
        }
        (true, false) => along(y, x, from.1),
        (false, true) => across(y, x, from.0),
        (false, false) => gpu.copy(y, x),
    }
}

fn along(gpu: &Gpu, y: View<u8>, x: View<u8>, table: View<i32>, rows: usize, width: usize, to: usize) -> Result<()> {
    let at = Launch::new(rows.div_ceil(ROWS), THREADS as u32);
    let [rows, width, to_width] = [rows, width, to].map(|n| n as u32);
    kernels::PixelsAlong { y, x, table, rows, width, to_width }.launch(gpu, at)
}

fn across(
    gpu: &Gpu,
    y: View<u8>,
    x: View<u8>,
    table: View<i32>,
    n: usize,
    width: usize,
    (height, to): (usize, usize),
) -> Result<()> {
    let at = Launch::grid([to.div_ceil(ROWS), n, 1], THREADS as u32);
    let words = (3 * width).is_multiple_of(4) && y.is_aligned(4) && x.is_aligned(4);
    let [width, height, to_height] = [width, height, to].map(|n| n as u32);
    kernels::PixelsAcross { y, x, table, width, height, to_height }.launch(gpu, at, if words { 4 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_for_every_pixel() {
        assert_eq!(plan_rgb8(3, 1, 1).grid, [1, 3, 1]);
        assert_eq!(plan_rgb8(8, 512 * 512, 4).grid, [256, 8, 1]);
        assert_eq!(plan_rgb8(1, 1025, 1).grid, [5, 1, 1]);
    }

    #[test]
    fn what_lies_between_the_passes() {
        let shape = |from, to, columns_first| Resize { n: 2, from, to, columns_first };
        assert_eq!(shape((512, 512), (256, 256), false).between_len(), 2 * 3 * 256 * 512);
        assert_eq!(shape((30, 512), (20, 256), true).between_len(), 2 * 3 * 30 * 256);
        assert_eq!(shape((512, 30), (256, 30), false).between_len(), 0);
    }
}
