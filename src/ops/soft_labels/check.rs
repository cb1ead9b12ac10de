//! Cross-entropy against soft targets, beside the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::soft_labels::{Labels, Shape, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "soft labels and their gradient", run: every_shape }]);

/// One class, fewer and more than a warp has lanes; a part of a step; large logits.
fn every_shape(case: &Case) -> Result<()> {
    for (rows, of, classes, smoothing) in
        [(1, 1, 1, 0.1), (3, 3, 2, 0.0), (7, 9, 31, 0.1), (5, 5, 100, 0.3), (9, 9, 1000, 0.1), (2, 4, 1025, 0.1)]
    {
        for std in [1.0, 60.0] {
            compare(case, Shape { rows, of, classes, smoothing }, std)?;
        }
    }
    if case.full() { compare(case, Shape { rows: 1024, of: 1024, classes: 1000, smoothing: 0.1 }, 1.0) } else { Ok(()) }
}

fn compare(case: &Case, shape: Shape, std: f32) -> Result<()> {
    let (gpu, name) = (case.gpu(), |what: &str| format!("{what} of {shape:?}"));
    let x = case.normal(&name("x"), shape.len(), std);
    let mut stream = case.stream(&name("labels"));
    let both = [0, 1].map(|_| (0..shape.rows).map(|_| stream.below(shape.classes) as u32).collect::<Vec<u32>>());
    // Whole and mixed rows; the two labels of a row may be one.
    let shares: Vec<u32> =
        (0..shape.rows).map(|i| if i % 3 == 0 { 1.0 } else { stream.uniform() }).map(f32::to_bits).collect();
    let (mut want, mut losses) = (vec![0.0; shape.len()], vec![0.0; shape.rows]);
    forward(&mut want, &mut losses, &x, Labels { both: [&both[0], &both[1]], shares: &shares }, shape);
    let (dx, found) = (gpu.upload(&vec![bf16::NAN; shape.len()])?, gpu.upload(&vec![f32::NAN; shape.rows])?);
    let (a, b, shares) = (gpu.upload(&both[0])?, gpu.upload(&both[1])?, gpu.upload(&shares)?);
    let labels = cuda::Labels { both: [a.view(), b.view()], shares: shares.view() };
    cuda::forward(gpu, dx.view(), found.view(), case.f32(&x)?.view(), labels, shape)?;
    // One class has nothing to learn: against 1 rather than against the gradient's own size, which is 0.
    let shifted = |values: &[f32], by: f32| values.iter().map(|value| value + by).collect::<Vec<f32>>();
    case.close(&name("losses"), &shifted(&gpu.read(found.view())?, 1.0), &shifted(&losses, 1.0), Tolerance::f32())?;
    let scale = 1.0 / shape.of as f32;
    let got = shifted(&case.read_bf16(dx.view())?, scale);
    case.close(&name("gradient"), &got, &shifted(&want, scale), Tolerance::bf16())
}
