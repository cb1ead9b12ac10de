//! Rows of 2×2 pixels spread over a map against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::spread::cuda::{self, scratch_len};
use crate::ops::spread::{Shape, backward, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "2×2 pixels spread bf16", run: |case| every_shape(case, compare_forward) },
    Check { name: "gradient of spread pixels and their bias", run: |case| every_shape(case, compare_backward) },
]);

/// One pixel, maps of one piece of sums and of several, channels that are vectors and that are not; with a bias and
/// without.
fn every_shape(case: &Case, compare: fn(&Case, Shape, bool) -> Result<()>) -> Result<()> {
    let shape = |n, side, c| Shape { n, side, c };
    let shapes = [shape(1, 1, 8), shape(3, 2, 1), shape(2, 3, 33), shape(3, 5, 264), shape(2, 8, 24), shape(1, 18, 8)];
    for &shape in &shapes {
        [false, true].into_iter().try_for_each(|biased| compare(case, shape, biased))?;
    }
    if case.full() { compare(case, shape(8, 64, 768), true) } else { Ok(()) }
}

fn compare_forward(case: &Case, shape: Shape, biased: bool) -> Result<()> {
    let (gpu, name) = (case.gpu(), format!("{shape:?}, bias {biased}"));
    let (x, host) = case.bf16(&case.normal(&format!("x {name}"), shape.len(), 1.0))?;
    let bias = case.normal("bias", shape.c, 1.0);
    let on_gpu = case.f32(&bias)?;
    let mut want = vec![f32::NAN; shape.len()];
    forward(&mut want, &host, biased.then_some(&bias[..]), shape);
    let y = gpu.upload(&vec![bf16::NAN; shape.len()])?;
    cuda::forward(gpu, y.view(), x.view(), biased.then(|| on_gpu.view()), shape)?;
    let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
    case.same(&name, &gpu.read(y.view())?, &want)
}

fn compare_backward(case: &Case, shape: Shape, biased: bool) -> Result<()> {
    let (gpu, name) = (case.gpu(), format!("{shape:?}, bias {biased}"));
    let (dy, host) = case.bf16(&case.normal(&format!("dy {name}"), shape.len(), 1.0))?;
    let mut dbias = case.normal("dbias", shape.c, 1.0);
    let on_gpu = case.f32(&dbias)?;
    let mut want = vec![f32::NAN; shape.len()];
    backward(&mut want, biased.then_some(&mut dbias[..]), &host, shape);
    let (dx, scratch) = (gpu.upload(&vec![bf16::NAN; shape.len()])?, gpu.upload(&vec![f32::NAN; scratch_len(shape)])?);
    cuda::backward(gpu, dx.view(), biased.then(|| on_gpu.view()), dy.view(), scratch.view(), shape)?;
    let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
    case.same(&name, &gpu.read(dx.view())?, &want)?;
    case.close(&format!("bias of {name}"), &gpu.read(on_gpu.view())?, &dbias, Tolerance::f32())
}
