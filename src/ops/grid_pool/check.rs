//! Means of a grid of windows against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::grid_pool::{Shape, backward, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "means of a grid bf16", run: |case| every_shape(case, compare_forward) },
    Check { name: "gradient of the means of a grid", run: |case| every_shape(case, compare_backward) },
]);

/// The bins of a pyramid on sides that they divide, that they do not, and that are smaller; channels that are vectors
/// and that are not.
fn every_shape(case: &Case, compare: fn(&Case, Shape) -> Result<()>) -> Result<()> {
    for (side, bins) in [1, 5, 8].into_iter().flat_map(|side| [1, 2, 3, 6].map(|bins| (side, bins))) {
        let c = [33, 24, 264, 1][(side + bins) % 4];
        compare(case, Shape { n: 2, side, bins, c })?;
    }
    compare(case, Shape { n: 1, side: 35, bins: 2, c: 8 })?;
    if case.full() { compare(case, Shape { n: 16, side: 32, bins: 6, c: 768 }) } else { Ok(()) }
}

fn compare_forward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [before, behind]) = (case.gpu(), shape.lens());
    let (x, host) = case.bf16(&case.normal(&format!("x {shape:?}"), before, 1.0))?;
    let mut want = vec![f32::NAN; behind];
    forward(&mut want, &host, shape);
    let y = gpu.upload(&vec![bf16::NAN; behind])?;
    cuda::forward(gpu, y.view(), x.view(), shape)?;
    case.close(&format!("{shape:?}"), &case.read_bf16(y.view())?, &want, Tolerance::bf16())
}

fn compare_backward(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, [before, behind]) = (case.gpu(), shape.lens());
    let (dy, host) = case.bf16(&case.normal(&format!("dy {shape:?}"), behind, 1.0))?;
    let (dx, mut want) = case.bf16(&case.normal(&format!("dx {shape:?}"), before, 1.0))?;
    backward(&mut want, &host, shape);
    cuda::backward(gpu, dx.view(), dy.view(), shape)?;
    case.close(&format!("{shape:?}"), &case.read_bf16(dx.view())?, &want, Tolerance::bf16())
}
