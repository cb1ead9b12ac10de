use stablerep::ops::conv::{Shape, Weights, forward};
use stablerep::ops::gemm::Operands;
use stablerep::ops::gemm::Threads;
use stablerep::ops::packed::{Packed, Start, linear};

use crate::support::{assert_close, random};

/// Convolution by its definition, in f64; weights `[out, in, 3, 3]`.
fn reference(x: &[f32], w: &[f32], s: Shape, outputs: usize) -> Vec<f64> {
    let (ch, cw) = s.enlarge.unwrap_or((s.height, s.width));
    let (oh, ow) = s.output();
    let mut y = vec![0.0; s.n * oh * ow * outputs];
    for (i, y) in y.iter_mut().enumerate() {
        let (o, ox, oy, n) = (i % outputs, i / outputs % ow, i / outputs / ow % oh, i / outputs / ow / oh);
        for (ky, kx) in (0..9).map(|t| (t / 3, t % 3)) {
            let (vy, vx) = ((oy * s.stride + ky).wrapping_sub(1), (ox * s.stride + kx).wrapping_sub(1));
            if vy < ch && vx < cw {
                let (iy, ix) = (vy * s.height / ch, vx * s.width / cw);
                for c in 0..s.channels {
                    let pixel = x[((n * s.height + iy) * s.width + ix) * s.channels + c];
                    *y += f64::from(pixel) * f64::from(w[((o * s.channels + c) * 3 + ky) * 3 + kx]);
                }
            }
        }
    }
    y
}

/// Layers, and how far their results may be off, relative to the largest.
fn layers() -> Vec<(Shape, usize, f64)> {
    let same = Shape::same;
    let direct = [
        (same(1, 1, 1, 1), 1),
        (same(3, 4, 4, 4), 80),
        (same(2, 5, 7, 3), 4),
        (same(1, 2, 9, 130), 17),
        (same(2, 19, 33, 16), 3),
        (Shape { stride: 2, ..same(2, 8, 8, 5) }, 6),
        (Shape { stride: 2, ..same(1, 5, 7, 60) }, 9),
        (Shape { stride: 2, ..same(1, 8, 8, 64) }, 64),
        (Shape { enlarge: Some((8, 8)), ..same(3, 4, 4, 20) }, 7),
        (Shape { enlarge: Some((5, 9)), ..same(2, 3, 5, 6) }, 5),
        // Too few results for their tiles.
        (same(3, 2, 2, 64), 40),
        (same(1, 1, 4, 64), 40),
    ];
    let by_tiles = [
        (same(3, 4, 4, 32), 32),
        (same(2, 19, 33, 40), 37),
        (same(1, 3, 70, 65), 48),
        (same(1, 8, 8, 640), 33),
        // A part for every thread, and places for every thread.
        (same(5, 24, 25, 64), 64),
        (same(1, 8, 10, 200), 150),
        (Shape { enlarge: Some((8, 8)), ..same(3, 4, 4, 40) }, 35),
        (Shape { enlarge: Some((11, 9)), ..same(2, 6, 5, 33) }, 34),
    ];
    let with = |off: f64| move |(shape, outputs)| (shape, outputs, off);
    direct.into_iter().map(with(2e-6)).chain(by_tiles.into_iter().map(with(1e-5))).collect()
}

#[test]
fn matches_the_definition_in_f64() {
    for (shape, outputs, off) in layers() {
        let x = random(shape.n * shape.height * shape.width * shape.channels, 1);
        let (w, bias) = (random(outputs * shape.channels * 9, 2), random(outputs, 3));
        let layer = Weights::new(&w, Some(bias.clone()), (shape.channels, outputs), shape.stride, Operands::F32);
        let products = reference(&x, &w, shape, outputs);
        let residual = random(products.len(), 4);
        let row = random(outputs, 5);
        for threads in [Threads::One, Threads::All] {
            let run = |layer: &Weights, start: Start<'_>, base: &dyn Fn(usize) -> f32| {
                let mut y = residual.clone();
                forward(&mut y, &x, layer, start, shape, threads);
                let want: Vec<f64> = products.iter().enumerate().map(|(i, p)| p + f64::from(base(i))).collect();
                assert_close(&format!("{shape:?} {start:?}"), &y, &want, off);
            };
            run(&layer, Start::Bias, &|i| bias[i % outputs]);
            run(&layer, Start::Row(&row), &|i| row[i % outputs]);
            run(&layer, Start::Residual(&residual), &|i| residual[i] + bias[i % outputs]);
            run(&layer, Start::Keep, &|i| residual[i] + bias[i % outputs]);
            let no_bias = Weights::new(&w, None, (shape.channels, outputs), shape.stride, Operands::F32);
            run(&no_bias, Start::Bias, &|_| 0.0);
            run(&no_bias, Start::Keep, &|i| residual[i]);
        }
    }
}

#[test]
fn an_image_has_the_same_bits_in_every_batch() {
    for (shape, outputs, _) in layers() {
        let image = shape.height * shape.width * shape.channels;
        let (oh, ow) = shape.output();
        let x = random(8 * image, 1);
        let w = random(outputs * shape.channels * 9, 2);
        let layer = Weights::new(&w, None, (shape.channels, outputs), shape.stride, Operands::F32);
        let run = |n: usize, threads| {
            let mut y = vec![0.0; n * oh * ow * outputs];
            forward(&mut y, &x[..n * image], &layer, Start::Bias, Shape { n, ..shape }, threads);
            y
        };
        let whole = run(8, Threads::All);
        for n in [1, 2, 3, 5] {
            for threads in [Threads::One, Threads::All] {
                assert!(run(n, threads) == whole[..n * oh * ow * outputs], "{n} of {shape:?}");
            }
        }
    }
}

#[test]
fn linear_layers_match_f64_and_join() {
    for (rows, k, n) in [(1, 3, 5), (7, 64, 80), (300, 33, 1), (257, 530, 40)] {
        let (x, w, bias) = (random(rows * k, 1), random(n * k, 2), random(n, 3));
        let layer = Packed::from_out_in(&w, Some(bias.clone()), n, k, Operands::F32);
        let want: Vec<f64> = (0..rows * n)
            .map(|i| {
                let dot = |p: usize| f64::from(x[i / n * k + p]) * f64::from(w[i % n * k + p]);
                (0..k).map(dot).sum::<f64>() + f64::from(bias[i % n])
            })
            .collect();
        for threads in [Threads::One, Threads::All] {
            let mut y = vec![9.0; rows * n];
            linear(&mut y, &x, &layer, Start::Bias, threads);
            assert_close("linear", &y, &want, 2e-6);
            let no_bias = Packed::from_out_in(&w, None, n, k, Operands::F32);
            let both = Packed::side_by_side(&[&no_bias, &layer]);
            let mut pair = vec![9.0; rows * 2 * n];
            linear(&mut pair, &x, &both, Start::Bias, threads);
            for (pair, y) in pair.chunks_exact(2 * n).zip(y.chunks_exact(n)) {
                for i in 0..n {
                    assert!((pair[n + i] - y[i]).abs() < 1e-4 && (pair[i] + bias[i] - y[i]).abs() < 1e-4);
                }
            }
        }
    }
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| half::bf16::from_f32(value).to_f32()).collect()
}

/// Products of operands in bf16 are exact in f32, so that only sums round: in whatever way the instruction set adds.
#[test]
fn in_bf16_only_operands_are_rounded() {
    for (shape, outputs, _) in layers() {
        let x = random(shape.n * shape.height * shape.width * shape.channels, 1);
        let (w, bias) = (random(outputs * shape.channels * 9, 2), random(outputs, 3));
        let sizes = (shape.channels, outputs);
        let layer = Weights::new(&w, Some(bias.clone()), sizes, shape.stride, Operands::Bf16);
        // An odd number of channels has no pairs.
        let (x_used, w_used) = match shape.channels % 2 {
            0 => (rounded(&x), rounded(&w)),
            _ => (x.clone(), w),
        };
        let want: Vec<f64> = reference(&x_used, &w_used, shape, outputs)
            .iter()
            .enumerate()
            .map(|(i, product)| product + f64::from(bias[i % outputs]))
            .collect();
        let image = want.len() / shape.n;
        for threads in [Threads::One, Threads::All] {
            let mut y = vec![f32::NAN; want.len()];
            forward(&mut y, &x, &layer, Start::Bias, shape, threads);
            assert_close(&format!("{shape:?} in bf16"), &y, &want, 2e-6);
            let mut one = vec![f32::NAN; image];
            let first = &x[..x.len() / shape.n];
            forward(&mut one, first, &layer, Start::Bias, Shape { n: 1, ..shape }, threads);
            assert!(one == y[..image], "{shape:?} in bf16, {threads:?}: the batch changes the bits");
        }
    }
    for (rows, k, n) in [(1, 3, 5), (7, 64, 80), (300, 33, 1), (257, 530, 40), (600, 2100, 17)] {
        let (x, w, bias) = (random(rows * k, 1), random(n * k, 2), random(n, 3));
        let layer = Packed::from_out_in(&w, Some(bias.clone()), n, k, Operands::Bf16);
        let (rounded_x, rounded_w) = (rounded(&x), rounded(&w));
        let dot = |i: usize, p: usize| f64::from(rounded_x[i / n * k + p]) * f64::from(rounded_w[i % n * k + p]);
        let sum = |i: usize| (0..k).map(|p| dot(i, p)).sum::<f64>() + f64::from(bias[i % n]);
        let want: Vec<f64> = (0..rows * n).map(sum).collect();
        let no_bias = Packed::from_out_in(&w, None, n, k, Operands::Bf16);
        let both = Packed::side_by_side(&[&layer, &no_bias]);
        for threads in [Threads::One, Threads::All] {
            let (mut y, mut pair) = (vec![9.0; rows * n], vec![9.0; rows * 2 * n]);
            linear(&mut y, &x, &layer, Start::Bias, threads);
            assert_close("linear in bf16", &y, &want, 2e-6);
            linear(&mut pair, &x, &both, Start::Bias, threads);
            assert!(pair.chunks_exact(2 * n).zip(y.chunks_exact(n)).all(|(pair, y)| pair[..n] == *y), "side by side");
        }
    }
}
