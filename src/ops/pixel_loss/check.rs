//! The loss of labelled pixels and its gradient against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::pixel_loss::{Loss, Shape, backward, cuda, forward};

pub const CHECKS: Checks =
    Checks::quick(&[Check { name: "loss of labelled pixels and its gradient", run: every_shape }]);

/// One pixel and class, equal sizes, whole factors and others; fewer classes than a warp has lanes and more; a part of
/// a step; large logits; losses added to others.
fn every_shape(case: &Case) -> Result<()> {
    let shape = |n, of, from, to, classes| Shape { n, of, from, to, classes };
    let shapes = [
        shape(1, 1, 1, 1, 1),
        shape(2, 5, 1, 3, 7),
        shape(1, 1, 3, 3, 33),
        shape(2, 2, 3, 8, 4),
        shape(1, 3, 5, 20, 40),
    ];
    for shape in shapes {
        compare(case, Loss { shape, weight: 1.0, add: false }, 1.0)?;
        compare(case, Loss { shape, weight: 0.4, add: true }, 30.0)?;
    }
    compare(case, Loss { shape: shape(1, 1, 2, 9, 150), weight: 1.0, add: false }, 3.0)?;
    if case.full() {
        compare(case, Loss { shape: shape(2, 16, 128, 512, 150), weight: 1.0, add: false }, 2.0)
    } else {
        Ok(())
    }
}

fn compare(case: &Case, of: Loss, std: f32) -> Result<()> {
    let (gpu, shape) = (case.gpu(), of.shape);
    let ([values, pixels], name) = (shape.lens(), |what: &str| format!("{what} of {of:?}"));
    let logits = case.normal(&name("logits"), values, std);
    // One more than there are classes: every so many pixels are ignored.
    let mut stream = case.stream(&name("labels"));
    let ignored = |label: usize| if label == shape.classes { 255 + label as u32 } else { label as u32 };
    let labels: Vec<u32> = (0..pixels).map(|_| ignored(stream.below(shape.classes + 1))).collect();
    let mut losses = case.normal(&name("losses"), shape.n * shape.to, 1.0);
    let (on_gpu, got_lse) = (case.f32(&losses)?, gpu.upload(&vec![f32::NAN; pixels])?);
    let (mut lse, mut d) = (vec![f32::NAN; pixels], vec![f32::NAN; values]);
    forward(&mut losses, &mut lse, &logits, &labels, of);
    backward(&mut d, &logits, &lse, &labels, of);
    let (logits, labels, got_d) = (case.f32(&logits)?, gpu.upload(&labels)?, gpu.upload(&vec![bf16::NAN; values])?);
    cuda::forward(gpu, on_gpu.view(), got_lse.view(), logits.view(), labels.view(), of)?;
    cuda::backward(gpu, got_d.view(), logits.view(), got_lse.view(), labels.view(), of)?;
    // One class has nothing to learn: against 1 rather than against 0.
    let shifted = |values: &[f32], by: f32| values.iter().map(|value| value + by).collect::<Vec<f32>>();
    case.close(&name("losses"), &shifted(&gpu.read(on_gpu.view())?, 1.0), &shifted(&losses, 1.0), Tolerance::f32())?;
    case.close(&name("log-sum-exp"), &gpu.read(got_lse.view())?, &lse, Tolerance::f32())?;
    let by = shape.slope(of.weight);
    case.close(&name("gradient"), &shifted(&case.read_bf16(got_d.view())?, by), &shifted(&d, by), Tolerance::bf16())
}
