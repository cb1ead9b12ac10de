//! Cross-entropy of many heads against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::cross_entropy::cuda::{count_correct, gradient_in_place, means};
use crate::ops::cross_entropy::{self, Shape};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "cross-entropy and its gradient", run: every_shape },
    Check { name: "counting correct classifications", run: counting },
]);

fn every_shape(case: &Case) -> Result<()> {
    for (rows, heads, classes) in
        [(1, 1, 1), (3, 2, 2), (7, 1, 31), (5, 3, 100), (2, 2, 1000), (9, 1, 1024), (2, 1, 1025)]
    {
        for std in [1.0, 60.0] {
            compare(case, Shape { rows, heads, classes }, std)?;
        }
    }
    if case.full() {
        compare(case, Shape { rows: 1024, heads: 10, classes: 1000 }, 1.0)?;
    }
    Ok(())
}

fn labels(case: &Case, shape: Shape) -> Vec<u32> {
    let mut stream = case.stream(&format!("labels {shape:?}"));
    (0..shape.rows)
        .map(|_| (stream.uniform_in(0.0, shape.classes as f32) as u32).min(shape.classes as u32 - 1))
        .collect()
}

fn compare(case: &Case, shape: Shape, std: f32) -> Result<()> {
    let (gpu, pairs) = (case.gpu(), shape.rows * shape.heads);
    let values = case.normal(&format!("x {shape:?}"), pairs * shape.classes, std);
    let labels = labels(case, shape);
    let scale = 1.0 / shape.rows as f32;
    let (mut want, mut losses) = (values.clone(), vec![0.0; pairs]);
    cross_entropy::forward_in_place(&mut losses, &mut want, &labels, shape);
    cross_entropy::backward_in_place(&mut want, &labels, scale, shape);
    let mut sums = vec![0.0f64; shape.heads];
    losses.chunks_exact(shape.heads).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, &l)| *s += f64::from(l)));
    let sums: Vec<f32> = sums.into_iter().map(|sum| (sum / shape.rows as f64) as f32).collect();

    let labels = gpu.upload(&labels)?;
    let found = gpu.upload(&vec![f32::NAN; pairs])?;
    let rounded = gpu.upload(&vec![bf16::NAN; values.len()])?;
    for copy in [None, Some(rounded.view())] {
        let x = case.f32(&values)?;
        gradient_in_place(gpu, found.view(), x.view(), copy, labels.view(), scale, shape)?;
        let got = gpu.read(x.view())?;
        // One class: probability 1 and nothing to learn; a share of the scale instead of the gradient's size, which is
        // 0.
        let tolerance = Tolerance { relative: 1e-4, ..Tolerance::f32() };
        let shifted = |values: &[f32]| values.iter().map(|v| v + scale).collect::<Vec<f32>>();
        case.close(&format!("gradient of {shape:?}"), &shifted(&got), &shifted(&want), tolerance)?;
        let loss_scale = |values: &[f32]| values.iter().map(|v| v + 1.0).collect::<Vec<f32>>();
        let read = gpu.read(found.view())?;
        case.close(&format!("losses of {shape:?}"), &loss_scale(&read), &loss_scale(&losses), tolerance)?;
        if let Some(copy) = copy {
            let want: Vec<bf16> = got.into_iter().map(bf16::from_f32).collect();
            case.same(&format!("bf16 gradient of {shape:?}"), &gpu.read(copy)?, &want)?;
        }
    }
    let mean = gpu.upload(&vec![f32::NAN; shape.heads])?;
    means(gpu, mean.view(), found.view())?;
    let shifted = |values: &[f32]| values.iter().map(|v| v + 1.0).collect::<Vec<f32>>();
    let read = gpu.read(mean.view())?;
    case.close(&format!("means of {shape:?}"), &shifted(&read), &shifted(&sums), Tolerance::f32())
}

/// Few distinct values, so that ties decide; rows with NaN.
fn counting(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (rows, heads, classes) in [(1, 1, 1), (40, 3, 4), (30, 2, 70)] {
        let shape = Shape { rows, heads, classes };
        let mut x: Vec<f32> = case.normal(&format!("{shape:?}"), rows * heads * classes, 1.0);
        x.iter_mut().for_each(|v| *v = v.round());
        if rows > 1 {
            x[classes / 2] = f32::NAN;
            x[(rows * heads - 1) * classes..].fill(f32::NAN);
        }
        let labels = labels(case, shape);
        let mut want = vec![5u32; heads];
        for (pair, row) in x.chunks_exact(classes).enumerate() {
            let label = labels[pair / heads] as usize;
            let others = row.iter().enumerate().filter(|&(c, _)| c != label);
            let best = others.into_iter().all(|(c, &v)| if c < label { v < row[label] } else { v <= row[label] });
            want[pair % heads] += u32::from(best);
        }
        let (x, labels, correct) = (case.f32(&x)?, gpu.upload(&labels)?, gpu.upload(&vec![5u32; heads])?);
        count_correct(gpu, correct.view(), x.view(), labels.view(), shape)?;
        case.same(&format!("correct of {shape:?}"), &gpu.read(correct.view())?, &want)?;
    }
    Ok(())
}
