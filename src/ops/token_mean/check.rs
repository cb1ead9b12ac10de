//! The mean of patch tokens against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::token_mean::{Shape, backward, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "mean of patch tokens", run: |case| every_shape(case, compare) },
    Check { name: "gradient of the mean of patch tokens", run: |case| every_shape(case, compare_backward) },
]);

/// One patch, widths that are vectors and that are not, more columns than a block has threads for.
fn every_shape(case: &Case, compare: fn(&Case, Shape) -> Result<()>) -> Result<()> {
    let shape = |n, tokens, d| Shape { n, tokens, d };
    let shapes = [shape(1, 2, 8), shape(3, 17, 24), shape(2, 5, 33), shape(5, 197, 64), shape(2, 4, 1032)];
    shapes.iter().try_for_each(|&shape| compare(case, shape))?;
    if case.full() { compare(case, shape(64, 197, 768)) } else { Ok(()) }
}

fn compare(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, Shape { n, tokens, d }) = (case.gpu(), shape);
    let (x, values) = case.bf16(&case.normal(&format!("x {shape:?}"), n * tokens * d, 1.0))?;
    let mut want = vec![0.0; n * d];
    forward(&mut want, &values, shape);
    let y = gpu.upload(&vec![bf16::NAN; n * d])?;
    cuda::forward(gpu, y.view(), x.view(), shape)?;
    case.close(&format!("mean of {shape:?}"), &case.read_bf16(y.view())?, &want, Tolerance::bf16())
}

fn compare_backward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, Shape { n, tokens, d }) = (case.gpu(), shape);
    let (dy, values) = case.bf16(&case.normal(&format!("dy {shape:?}"), n * d, 1.0))?;
    let mut want = vec![f32::NAN; n * tokens * d];
    backward(&mut want, &values, shape);
    let dx = gpu.upload(&vec![bf16::NAN; want.len()])?;
    cuda::backward(gpu, dx.view(), dy.view(), shape)?;
    let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
    case.same(&format!("gradient of {shape:?}"), &gpu.read(dx.view())?, &want)
}
