//! Convolutions of Inception v3 at 299² pixels, 64 pictures at once: of 1×1, 3×3 and 1×7 places, and of the pictures.

use crate::ops::bench::{Case, Size, Work};
use crate::ops::conv2d::{Shape, Window, cuda};
use crate::ops::halves::{Columns, words};

pub fn cases(size: Size) -> Vec<Case> {
    let n = size.pick(64, 1);
    let shape = |side: usize, channels, window| {
        let side = size.pick(side, side / 3);
        Shape { n, height: side, width: side, channels, window }
    };
    let mut all: Vec<Case> = [
        (shape(35, 96, Window::same(3, 3)), 96),
        (shape(17, 192, Window::same(1, 7)), 192),
        (shape(17, 768, Window::same(1, 1)), 192),
        (shape(147, 32, Window::same(3, 3)), 64),
    ]
    .into_iter()
    .map(|(shape, outputs)| forward(shape, outputs))
    .collect();
    all.push(pixels(shape(299, 3, Window::inside(3, 2))));
    all
}

fn title(shape: Shape, outputs: &str) -> String {
    let Shape { n, height, width, channels, window } = shape;
    let (down, across) = window.kernel;
    format!("[{n}, {height}×{width}, {channels}] by {down}×{across}{outputs}")
}

fn forward(shape: Shape, outputs: usize) -> Case {
    let (rows, k) = (shape.rows(), shape.window.taps() * shape.channels);
    let values = shape.inputs() + rows * outputs + k * outputs;
    // Three products of halves.
    let work = Work { flops: 6.0 * (rows * k * outputs) as f64, bytes: 4.0 * values as f64, ..Work::default() };
    let name = ("conv2d", "forward f32 by halves", title(shape, &format!(" to {outputs}")));
    Case::new(name, work, move |inputs| {
        let lines = |rows, width, std| inputs.scaled::<half::bf16>(2 * words(rows, width), std);
        let x = lines(shape.inputs() / shape.channels, shape.channels, 1.0)?;
        let w = lines(outputs * shape.window.taps(), shape.channels, (k as f32).powf(-0.5))?;
        let (bias, y) = (inputs.normal::<f32>(outputs)?, inputs.room::<u32>(words(rows, outputs))?);
        Ok(move |gpu: &_| {
            let weights = cuda::Weights { w: w.view().cast(), bias: bias.view() };
            cuda::forward(gpu, Columns::all(y.view(), outputs), x.view().cast(), weights, shape)
        })
    })
}

fn pixels(shape: Shape) -> Case {
    let lines = words(shape.rows(), shape.window.taps() * shape.channels);
    let work = Work { bytes: 4.0 * (shape.inputs() + lines) as f64, ..Work::default() };
    Case::new(("conv2d", "pixels f32 to halves", title(shape, "")), work, move |inputs| {
        let (x, y) = (inputs.normal::<f32>(shape.inputs())?, inputs.room::<u32>(lines)?);
        Ok(move |gpu: &_| cuda::pixels(gpu, y.view(), x.view(), shape))
    })
}
