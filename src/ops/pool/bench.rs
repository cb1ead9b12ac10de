//! Pools of Inception v3 at 299² pixels, 64 pictures at once, and the mean of its last maps.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::conv2d::{Shape, Window};
use crate::ops::halves::{Columns, words};
use crate::ops::pool::{Pool, cuda};

pub fn cases(size: Size) -> Vec<Case> {
    let n = size.pick(64, 1);
    let shape = |side: usize, channels, window| {
        let side = size.pick(side, side.div_ceil(3));
        Shape { n, height: side, width: side, channels, window }
    };
    vec![
        forward("largest by halves", Pool::Max, shape(147, 64, Window::inside(3, 2))),
        forward("mean by halves", Pool::Average, shape(35, 288, Window::same(3, 3))),
        mean(n, 64, 2048),
    ]
}

fn forward(kernel: &str, pool: Pool, shape: Shape) -> Case {
    let Shape { n, height, width, channels, .. } = shape;
    let (read, written) = (words(n * height * width, channels), words(shape.rows(), channels));
    let work = Work { bytes: 4.0 * (read + written) as f64, ..Work::default() };
    let (down, across) = shape.window.kernel;
    let title = format!("[{n}, {height}×{width}, {channels}] by {down}×{across}");
    Case::new(("pool", kernel, title), work, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(2 * read)?, inputs.room::<u32>(written)?);
        Ok(move |gpu: &_| cuda::forward(gpu, Columns::all(y.view(), channels), x.view().cast(), pool, shape))
    })
}

fn mean(n: usize, pixels: usize, channels: usize) -> Case {
    let read = words(n * pixels, channels);
    let work = Work { bytes: 4.0 * (read + n * channels) as f64, ..Work::default() };
    Case::new(("pool", "mean of maps", format!("[{n}, {pixels}, {channels}]")), work, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(2 * read)?, inputs.room::<f32>(n * channels)?);
        Ok(move |gpu: &_| cuda::mean(gpu, y.view(), x.view().cast(), pixels, channels))
    })
}
