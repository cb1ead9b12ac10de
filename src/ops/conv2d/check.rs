//! Convolutions of split maps against the CPU op.

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::conv2d::{Shape, Window, cuda, forward};
use crate::ops::gemm::Operands;
use crate::ops::halves::{Columns, joined, split, words};
use crate::ops::packed::Packed;
use crate::ops::relu;

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "convolution of any window by halves", run: every_window },
    Check { name: "convolution into columns of wider maps", run: beside_others },
    Check { name: "convolution of pictures", run: of_pictures },
    Check { name: "convolution of what is no number", run: not_a_number },
]);

/// Sums of products of halves: each is off by up to 2⁻¹⁷ of its size.
const TOLERANCE: Tolerance = Tolerance { difference: 1e-9, relative: 1e-4, of_rms: 1e-4 };

/// A layer's weights and bias.
fn layer(case: &Case, name: &str, shape: Shape, outputs: usize) -> Packed {
    let (taps, channels) = (shape.window.taps(), shape.channels);
    let fan_in = taps * channels;
    let w = case.normal(&format!("w {name}"), outputs * fan_in, (fan_in as f32).powf(-0.5));
    let bias = case.normal(&format!("bias {name}"), outputs, 0.5);
    Packed::from_conv(&w, Some(bias), (channels, outputs), taps, Operands::F32)
}

/// On the CPU, with the rectifier.
fn wanted(x: &[f32], w: &Packed, shape: Shape) -> Vec<f32> {
    let mut y = vec![f32::NAN; shape.rows() * w.n];
    forward(&mut y, x, w, shape);
    relu::forward_in_place(&mut y);
    y
}

/// Tiles that are full and not, of both widths; taps and channels of one step and of many; borders on all sides.
fn every_window(case: &Case) -> Result<()> {
    let same = Window::same;
    let shapes = [
        (2, (5, 7), 33, same(3, 3), 48),
        (1, (17, 12), 96, same(1, 7), 96),
        (1, (9, 17), 32, same(7, 1), 160),
        (3, (6, 6), 64, same(1, 1), 80),
        (1, (11, 8), 48, same(5, 5), 2),
        (2, (13, 9), 40, Window::inside(3, 2), 70),
        (1, (1, 1), 1, same(3, 3), 1),
        (1, (12, 12), 7, Window::inside(3, 1), 65),
    ];
    for (n, (height, width), channels, window, outputs) in shapes {
        compare(case, Shape { n, height, width, channels, window }, outputs, (0, 0))?;
    }
    let full = Shape { n: 8, height: 17, width: 17, channels: 768, window: Window::inside(3, 2) };
    if case.full() { compare(case, full, 320, (0, 0)) } else { Ok(()) }
}

fn beside_others(case: &Case) -> Result<()> {
    let shape = Shape { n: 2, height: 6, width: 5, channels: 20, window: Window::same(3, 3) };
    [(64, (0, 32)), (96, (32, 10)), (7, (64, 0))]
        .into_iter()
        .try_for_each(|(outputs, around)| compare(case, shape, outputs, around))
}

/// With `around` columns before and behind that must stay as they were.
fn compare(case: &Case, shape: Shape, outputs: usize, (before, behind): (usize, usize)) -> Result<()> {
    let (gpu, name) = (case.gpu(), format!("{shape:?} to {outputs}"));
    let (x, w) = (case.normal(&format!("x {name}"), shape.inputs(), 1.0), layer(case, &name, shape, outputs));
    let of = before + outputs + behind;
    let mut marks = split(&vec![-3.0; shape.rows() * of], of);
    if behind == 0 {
        // The last piece is its own, with what is behind the last channel.
        marks.chunks_exact_mut(words(1, of)).for_each(|row| row[words(1, of) - words(1, 1)..].fill(u32::MAX));
    }
    let (y, on) = (gpu.upload(&marks)?, gpu.upload(&split(&x, shape.channels))?);
    let weights = (gpu.upload(&cuda::operand(&w, shape.channels))?, case.f32(w.bias.as_deref().unwrap_or_default())?);
    let columns = Columns { rows: y.view(), of, first: before, channels: outputs };
    let weights = cuda::Weights { w: weights.0.view(), bias: weights.1.view() };
    cuda::forward(gpu, columns, on.view(), weights, shape)?;
    let written = gpu.read(y.view())?;
    let (mut inner, mut outer) = (Vec::new(), Vec::new());
    for row in joined(&written, of).chunks_exact(of) {
        inner.extend_from_slice(&row[before..before + outputs]);
        outer.extend([&row[..before], &row[before + outputs..]].concat());
    }
    case.close(&name, &inner, &wanted(&x, &w, shape), TOLERANCE)?;
    case.same(&format!("{name}, columns beside"), &outer, &vec![-3.0; outer.len()])?;
    // What a product behind this one multiplies by nothing.
    let behind: Vec<f32> =
        joined(&written, words(1, of)).chunks_exact(words(1, of)).flat_map(|row| &row[of..]).copied().collect();
    case.same(&format!("{name}, behind the last channel"), &behind, &vec![0.0; behind.len()])
}

/// Borders of zeros, and more taps than a piece has quarters for.
fn of_pictures(case: &Case) -> Result<()> {
    let shape = |height, width, channels, window| Shape { n: 2, height, width, channels, window };
    let shapes = [
        shape(15, 12, 3, Window::inside(3, 2)),
        shape(7, 9, 1, Window::same(5, 5)),
        shape(5, 4, 3, Window::same(3, 3)),
    ];
    shapes.into_iter().try_for_each(|shape| {
        let (gpu, outputs, under) = (case.gpu(), 40, shape.window.taps() * shape.channels);
        let (name, rows) = (format!("{shape:?}"), shape.rows());
        let (x, w) = (case.normal(&format!("x {name}"), shape.inputs(), 1.0), layer(case, &name, shape, outputs));
        let lines = gpu.upload(&vec![u32::MAX; words(rows, under)])?;
        cuda::pixels(gpu, lines.view(), case.f32(&x)?.view(), shape)?;
        let y = gpu.upload(&vec![u32::MAX; words(rows, outputs)])?;
        let (operand, bias) =
            (gpu.upload(&cuda::operand(&w, under))?, case.f32(w.bias.as_deref().unwrap_or_default())?);
        let weights = cuda::Weights { w: operand.view(), bias: bias.view() };
        let alone = Shape { n: 1, height: 1, width: rows, channels: under, window: Window::same(1, 1) };
        cuda::forward(gpu, Columns::all(y.view(), outputs), lines.view(), weights, alone)?;
        case.close(&name, &joined(&gpu.read(y.view())?, outputs), &wanted(&x, &w, shape), TOLERANCE)
    })
}

/// The rectifier hides none.
fn not_a_number(case: &Case) -> Result<()> {
    let (gpu, shape) = (case.gpu(), Shape { n: 1, height: 2, width: 3, channels: 4, window: Window::same(1, 1) });
    let (mut x, w) = (case.normal("x", shape.inputs(), 1.0), layer(case, "no number", shape, 5));
    x[9] = f32::NAN;
    let (on, y) = (gpu.upload(&split(&x, 4))?, gpu.upload(&vec![0u32; words(6, 5)])?);
    let (operand, bias) = (gpu.upload(&cuda::operand(&w, 4))?, case.f32(w.bias.as_deref().unwrap_or_default())?);
    let weights = cuda::Weights { w: operand.view(), bias: bias.view() };
    cuda::forward(gpu, Columns::all(y.view(), 5), on.view(), weights, shape)?;
    let got: Vec<u8> = joined(&gpu.read(y.view())?, 5).iter().map(|v| u8::from(v.is_nan())).collect();
    let want: Vec<u8> = (0..30).map(|at| u8::from(at / 5 == 2)).collect();
    case.same("rows that are none", &got, &want)
}
