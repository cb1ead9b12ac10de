//! Branches that some images leave out, against the CPU, bit for bit.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks};
use crate::ops::drop_path::{Shape, backward, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "branches of some images bf16", run: |case| every_shape(case, compare_forward) },
    Check { name: "their gradient bf16", run: |case| every_shape(case, compare_backward) },
]);

/// All tokens and class tokens alone, widths that are vectors and that are not.
fn every_shape(case: &Case, compare: fn(&Case, Shape, usize) -> Result<()>) -> Result<()> {
    let shapes = [((1, 1, 8), 8), ((5, 1, 24), 7 * 24), ((3, 17, 40), 40), ((6, 5, 33), 33), ((70, 3, 64), 64)];
    for ((n, rows, d), stride) in shapes {
        compare(case, Shape { n, rows, d }, stride)?;
    }
    if case.full() { compare(case, Shape { n: 64, rows: 197, d: 384 }, 384) } else { Ok(()) }
}

/// About a third of the images leave the branch out.
fn numbers(case: &Case, shape: Shape) -> Vec<u32> {
    let mut stream = case.stream(&format!("kept {shape:?}"));
    (0..shape.n).map(|_| stream.below(3) as u32).collect()
}

fn rounded(values: Vec<f32>) -> Vec<bf16> {
    values.into_iter().map(bf16::from_f32).collect()
}

/// What is left out holds no numbers.
fn compare_forward(case: &Case, shape: Shape, stride: usize) -> Result<()> {
    let (gpu, kept) = (case.gpu(), numbers(case, shape));
    let mut branch = case.normal(&format!("branch {shape:?}"), shape.len(), 1.0);
    for (branch, _) in branch.chunks_exact_mut(shape.rows * shape.d).zip(&kept).filter(|(_, kept)| **kept == 0) {
        branch.fill(f32::NAN);
    }
    let (y, mut want) = case.bf16(&branch)?;
    let (residual, residuals) = case.bf16(&case.normal("residual", shape.n * shape.rows * stride, 1.0))?;
    forward(&mut want, (&residuals, stride), &kept, 1.25, shape);
    let on = gpu.upload(&kept)?;
    cuda::forward(gpu, y.view(), (residual.view(), stride), on.view(), 1.25, shape)?;
    case.same(&format!("{shape:?} by {stride}"), &gpu.read(y.view())?, &rounded(want))
}

fn compare_backward(case: &Case, shape: Shape, _: usize) -> Result<()> {
    let (gpu, kept) = (case.gpu(), numbers(case, shape));
    let (dy, values) = case.bf16(&case.normal(&format!("dy {shape:?}"), shape.len(), 1.0))?;
    let mut want = vec![0.0; shape.len()];
    backward(&mut want, &values, &kept, 1.25, shape);
    let dx = gpu.upload(&vec![bf16::NAN; shape.len()])?;
    cuda::backward(gpu, dx.view(), dy.view(), gpu.upload(&kept)?.view(), 1.25, shape)?;
    case.same(&format!("{shape:?}"), &gpu.read(dx.view())?, &rounded(want))
}
