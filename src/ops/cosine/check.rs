//! The negative cosine against the CPU op.

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::cosine::cuda::{forward, scratch_len};
use crate::ops::cosine::{self, Shape};
use crate::ops::l2norm;

pub const CHECKS: Checks = Checks::quick(&[Check { name: "cosine and its gradient", run: every_shape }]);

fn every_shape(case: &Case) -> Result<()> {
    for (rows, dim, shift) in [(1, 1, 0), (2, 5, 1), (9, 64, 4), (16, 128, 8), (70, 256, 35), (2100, 12, 700)] {
        compare(case, Shape { rows, dim, shift, factor: 2.0 })?;
    }
    if case.full() {
        compare(case, Shape { rows: 8192, dim: 256, shift: 4096, factor: 2.0 })?;
    }
    Ok(())
}

fn compare(case: &Case, shape: Shape) -> Result<()> {
    let (gpu, len) = (case.gpu(), shape.rows * shape.dim);
    let unit = |name: &str| {
        let (x, mut z) = (case.normal(name, len, 1.0), vec![0.0; len]);
        l2norm::forward(&mut z, &mut vec![0.0; shape.rows], &x, 1e-12);
        z
    };
    let (rows, keys, mut drows) = (unit("rows"), unit("keys"), vec![0.0; len]);
    let loss = cosine::forward(&mut drows, &rows, &keys, shape);
    let (rows, keys) = (case.f32(&rows)?, case.f32(&keys)?);
    let (found, gradient) = (gpu.upload(&[f32::NAN])?, gpu.upload(&vec![f32::NAN; len])?);
    let scratch = gpu.upload(&vec![f32::NAN; scratch_len(shape)])?;
    forward(gpu, found.view(), gradient.view(), [rows.view(), keys.view()], scratch.view(), shape)?;
    // A loss may be 0.
    let got = gpu.read(found.view())?[0] + 1.0;
    case.close(&format!("loss of {shape:?}"), &[got], &[loss as f32 + 1.0], Tolerance::f32())?;
    case.close(&format!("gradient of {shape:?}"), &gpu.read(gradient.view())?, &drows, Tolerance::f32())
}
