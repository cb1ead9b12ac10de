//! Positions of another grid against the CPU op.

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::interpolate::{Shape, backward, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "positions of another grid", run: |case| every_shape(case, compare_forward) },
    Check { name: "their gradient", run: |case| every_shape(case, compare_backward) },
]);

/// Smaller grids, equal and larger ones, single places, widths beyond a block and that are no vectors.
fn every_shape(case: &Case, compare: fn(&Case, Shape) -> Result<()>) -> Result<()> {
    let shape = |from, to, d| Shape { from, to, d };
    let shapes =
        [shape(1, 1, 8), shape(2, 1, 33), shape(4, 2, 64), shape(14, 6, 200), shape(3, 3, 16), shape(2, 5, 24)];
    shapes.iter().try_for_each(|&shape| compare(case, shape))?;
    if case.full() { compare(case, shape(14, 6, 768)) } else { Ok(()) }
}

fn compare_forward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [before, behind]) = (case.gpu(), shape.lens());
    let pos = case.normal(&format!("pos {shape:?}"), before, 1.0);
    let mut want = vec![0.0; behind];
    forward(&mut want, &pos, shape);
    let y = gpu.upload(&vec![f32::NAN; behind])?;
    cuda::forward(gpu, y.view(), case.f32(&pos)?.view(), shape)?;
    case.close(&format!("{shape:?}"), &gpu.read(y.view())?, &want, Tolerance::f32())
}

fn compare_backward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [before, behind]) = (case.gpu(), shape.lens());
    let (dy, mut want) = (case.normal(&format!("dy {shape:?}"), behind, 1.0), case.normal("dpos", before, 1.0));
    let dpos = case.f32(&want)?;
    backward(&mut want, &dy, shape);
    cuda::backward(gpu, dpos.view(), case.f32(&dy)?.view(), shape)?;
    case.close(&format!("{shape:?}"), &gpu.read(dpos.view())?, &want, Tolerance::f32())
}
