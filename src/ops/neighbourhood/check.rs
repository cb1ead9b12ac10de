//! Neighbourhoods and their gradient against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::neighbourhood::{Shape, backward, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "3×3 neighbourhoods bf16", run: |case| every_shape(case, compare_forward) },
    Check { name: "gradient of 3×3 neighbourhoods", run: |case| every_shape(case, compare_backward) },
]);

/// One pixel, lines of a block and longer ones, one channel, odd ones and more than a warp has vectors for.
fn every_shape(case: &Case, compare: fn(&Case, Shape) -> Result<()>) -> Result<()> {
    let shape = |n, side, c| Shape { n, side, c };
    let shapes = [shape(1, 1, 8), shape(3, 2, 1), shape(2, 3, 33), shape(2, 5, 264), shape(1, 8, 24), shape(1, 35, 8)];
    shapes.iter().try_for_each(|&shape| compare(case, shape))?;
    if case.full() { compare(case, shape(4, 128, 512)) } else { Ok(()) }
}

fn compare_forward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [values, rows]) = (case.gpu(), shape.lens());
    let (x, host) = case.bf16(&case.normal(&format!("x {shape:?}"), values, 1.0))?;
    let mut want = vec![f32::NAN; rows];
    forward(&mut want, &host, shape);
    let y = gpu.upload(&vec![bf16::NAN; rows])?;
    cuda::forward(gpu, y.view(), x.view(), shape)?;
    let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
    case.same(&format!("{shape:?}"), &gpu.read(y.view())?, &want)
}

fn compare_backward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [values, rows]) = (case.gpu(), shape.lens());
    let (dy, host) = case.bf16(&case.normal(&format!("dy {shape:?}"), rows, 1.0))?;
    let mut want = vec![f32::NAN; values];
    backward(&mut want, &host, shape);
    let dx = gpu.upload(&vec![bf16::NAN; values])?;
    cuda::backward(gpu, dx.view(), dy.view(), shape)?;
    case.close(&format!("{shape:?}"), &case.read_bf16(dx.view())?, &want, Tolerance::bf16())
}
