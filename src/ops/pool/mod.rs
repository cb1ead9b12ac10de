//! Largest values and means under a window, of NHWC images in f32. Neither counts what lies outside of the image. On
//! CUDA maps are kept as two bf16 halves.
//!
//! FLOPs: one per place under the window. Bytes: x and y once.

#[cfg(cuda_kernels)]
pub mod bench;
#[cfg(cuda_kernels)]
pub mod check;
#[cfg(cuda_kernels)]
pub mod cuda;

use rayon::prelude::*;

use super::conv2d::Shape;
use super::simd::vectorize;

/// What is kept of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    Max,
    Average,
}

/// `y [N, H', W', C]` from `x [N, H, W, C]`; of values that are no number the result is none.
pub fn forward(y: &mut [f32], x: &[f32], pool: Pool, shape: Shape) {
    let (height, width, c, window) = (shape.height, shape.width, shape.channels, shape.window);
    let (out_height, out_width) = shape.output();
    assert!(
        y.len() == shape.rows() * c && x.len() == shape.inputs(),
        "pool: x {} y {} do not fit {shape:?}",
        x.len(),
        y.len()
    );
    // The pixels of one axis under the window at output `i`.
    let under = |i: usize, kernel: usize, padding: usize, side: usize| {
        let first = i * window.stride;
        first.saturating_sub(padding)..(first + kernel).saturating_sub(padding).min(side)
    };
    y.par_chunks_exact_mut(out_width * c).enumerate().for_each(|(line, y)| {
        let (image, rows) = (line / out_height, under(line % out_height, window.kernel.0, window.padding.0, height));
        for (i, y) in y.chunks_exact_mut(c).enumerate() {
            let columns = under(i, window.kernel.1, window.padding.1, width);
            let count = (rows.len() * columns.len()) as f32;
            let pixels = rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column)));
            let pixels = pixels.map(|(row, column)| &x[((image * height + row) * width + column) * c..][..c]);
            for (number, x) in pixels.enumerate() {
                vectorize(
                    #[inline(always)]
                    || match pool {
                        _ if number == 0 => y.copy_from_slice(x),
                        Pool::Average => y.iter_mut().zip(x).for_each(|(y, &x)| *y += x),
                        Pool::Max => {
                            y.iter_mut().zip(x).for_each(|(y, &x)| *y = if x > *y || x.is_nan() { x } else { *y })
                        }
                    },
                );
            }
            if pool == Pool::Average {
                y.iter_mut().for_each(|y| *y /= count);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::conv2d::Window;

    /// A map of 3×4 pixels of two channels: their number, and its negative.
    fn pooled(pool: Pool, window: Window) -> Vec<f32> {
        let x: Vec<f32> = (0..12).flat_map(|i| [i as f32, -(i as f32)]).collect();
        let shape = Shape { n: 1, height: 3, width: 4, channels: 2, window };
        let mut y = vec![f32::NAN; shape.rows() * 2];
        forward(&mut y, &x, pool, shape);
        y
    }

    #[test]
    fn windows_are_cut_at_the_border() {
        let corner_and_edge = |y: &[f32]| [y[0], y[1], y[2], y[3]];
        assert_eq!(corner_and_edge(&pooled(Pool::Average, Window::same(3, 3))), [2.5, -2.5, 3.0, -3.0]);
        assert_eq!(corner_and_edge(&pooled(Pool::Max, Window::same(3, 3))), [5.0, 0.0, 6.0, 0.0]);
        assert_eq!(pooled(Pool::Max, Window::inside(3, 2)), [10.0, 0.0]);
    }

    /// Wherever under the window it is.
    #[test]
    fn what_is_no_number_stays() {
        for place in 0..4 {
            let mut x = [1.0, 2.0, 3.0, 4.0];
            x[place] = f32::NAN;
            let mut y = [0.0];
            let shape = Shape { n: 1, height: 2, width: 2, channels: 1, window: Window::inside(2, 2) };
            forward(&mut y, &x, Pool::Max, shape);
            assert!(y[0].is_nan(), "{place}: {y:?}");
        }
    }
}
