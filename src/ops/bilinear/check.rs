//! Bilinear enlarging and its gradient against the CPU op.

use crate::error::Result;
use crate::ops::bilinear::{Shape, backward, cuda, forward};
use crate::ops::check::{Case, Check, Checks, Tolerance};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "bilinear enlarging bf16", run: |case| every_shape(case, compare_forward) },
    Check { name: "gradient of bilinear enlarging", run: |case| every_shape(case, compare_backward) },
]);

/// Equal sizes, whole factors and others, factors of which a block gathers every place; class tokens; columns beside
/// others; one channel, odd ones and more than a warp has vectors for; lines longer than a block's.
fn every_shape(case: &Case, compare: fn(&Case, Shape, bool) -> Result<()>) -> Result<()> {
    let shape = |n, lead, from, to, [c, column, columns]: [usize; 3]| Shape { n, lead, from, to, c, column, columns };
    let shapes = [
        shape(1, 0, 1, 1, [8, 0, 8]),
        shape(2, 1, 1, 5, [33, 0, 33]),
        shape(2, 5, 1, 8, [24, 8, 40]),
        shape(3, 1, 2, 3, [1, 2, 5]),
        shape(2, 0, 3, 8, [264, 16, 288]),
        shape(1, 1, 5, 5, [8, 4, 16]),
        shape(2, 5, 8, 16, [16, 0, 16]),
        shape(1, 0, 2, 17, [5, 1, 8]),
        shape(2, 1, 2, 35, [272, 0, 272]),
    ];
    for &shape in &shapes {
        [false, true].into_iter().try_for_each(|add| compare(case, shape, add))?;
    }
    if case.full() {
        compare(case, shape(4, 1, 32, 128, [512, 512, 2048]), false)?;
        compare(case, shape(4, 0, 16, 128, [512, 1536, 2048]), true)?;
    }
    Ok(())
}

fn compare_forward(case: &Case, shape: Shape, add: bool) -> Result<()> {
    let (gpu, [before, behind], name) = (case.gpu(), shape.lens(), format!("{shape:?}, added {add}"));
    let (x, host) = case.bf16(&case.normal(&format!("x {name}"), before, 1.0))?;
    let (y, mut want) = case.bf16(&case.normal(&format!("y {name}"), behind, 1.0))?;
    forward(&mut want, &host, shape, add);
    cuda::forward(gpu, y.view(), x.view(), shape, add)?;
    case.close(&name, &case.read_bf16(y.view())?, &want, Tolerance::bf16())
}

fn compare_backward(case: &Case, shape: Shape, add: bool) -> Result<()> {
    let (gpu, [before, behind], name) = (case.gpu(), shape.lens(), format!("{shape:?}, added {add}"));
    let (dy, host) = case.bf16(&case.normal(&format!("dy {name}"), behind, 1.0))?;
    let (dx, mut want) = case.bf16(&case.normal(&format!("dx {name}"), before, 1.0))?;
    backward(&mut want, &host, shape, add);
    cuda::backward(gpu, dx.view(), dy.view(), shape, add)?;
    case.close(&name, &case.read_bf16(dx.view())?, &want, Tolerance::bf16())
}
