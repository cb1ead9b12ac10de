//! The largest of every 2×2 pixels against the CPU op, bit for bit.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks};
use crate::ops::max_pool::{Shape, backward, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "largest of 2×2 pixels bf16", run: |case| every_shape(case, compare_forward) },
    Check { name: "gradient of the largest of 2×2 pixels", run: |case| every_shape(case, compare_backward) },
]);

/// Even and odd sides, lines longer than a block's, channels that are vectors and that are not.
fn every_shape(case: &Case, compare: fn(&Case, Shape) -> Result<()>) -> Result<()> {
    let shape = |n, side, c| Shape { n, side, c };
    let shapes = [shape(1, 2, 8), shape(3, 3, 1), shape(2, 5, 33), shape(2, 8, 264), shape(1, 71, 8)];
    shapes.iter().try_for_each(|&shape| compare(case, shape))?;
    if case.full() { compare(case, shape(16, 32, 768)) } else { Ok(()) }
}

/// Few different values, so that many are equal; and some that are no numbers.
fn pixels(case: &Case, shape: Shape) -> Vec<f32> {
    let [values, _] = shape.lens();
    let mut stream = case.stream(&format!("x {shape:?}"));
    (0..values).map(|_| [-1.0, -0.5, 0.0, 2.0, 2.5, f32::NAN][stream.below(16) % 6]).collect()
}

fn rounded(values: Vec<f32>) -> Vec<bf16> {
    values.into_iter().map(bf16::from_f32).collect()
}

fn compare_forward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [_, behind]) = (case.gpu(), shape.lens());
    let (x, host) = case.bf16(&pixels(case, shape))?;
    let mut want = vec![f32::INFINITY; behind];
    forward(&mut want, &host, shape);
    let y = gpu.upload(&vec![bf16::INFINITY; behind])?;
    cuda::forward(gpu, y.view(), x.view(), shape)?;
    // What is no number may be any of those that are none.
    let known = |values: &[bf16]| values.iter().map(|v| if v.is_nan() { 9.0 } else { v.to_f32() }).collect::<Vec<_>>();
    case.same(&format!("{shape:?}"), &known(&gpu.read(y.view())?), &known(&rounded(want)))
}

fn compare_backward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [before, behind]) = (case.gpu(), shape.lens());
    let (x, host) = case.bf16(&pixels(case, shape))?;
    let (dy, of_host) = case.bf16(&case.normal(&format!("dy {shape:?}"), behind, 1.0))?;
    let mut want = vec![f32::NAN; before];
    backward(&mut want, &of_host, &host, shape);
    let dx = gpu.upload(&vec![bf16::NAN; before])?;
    cuda::backward(gpu, dx.view(), dy.view(), x.view(), shape)?;
    case.same(&format!("{shape:?}"), &gpu.read(dx.view())?, &rounded(want))
}
