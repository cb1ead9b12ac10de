//! Unit rows and their gradient against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::l2norm::cuda::{Outputs, backward, forward};
use crate::ops::l2norm::{self};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "l2norm forward and backward", run: every_shape }]);

const EPS: f32 = 1e-3;

fn every_shape(case: &Case) -> Result<()> {
    for (rows, d) in [(1, 1), (3, 5), (8, 64), (9, 128), (17, 256), (5, 300), (2, 1023)] {
        compare(case, rows, d)?;
    }
    if case.full() {
        compare(case, 8192, 256)?;
    }
    Ok(())
}

/// f32 and bf16 results at once and alone. The first row is shorter than eps, the last zero.
fn compare(case: &Case, rows: usize, d: usize) -> Result<()> {
    let gpu = case.gpu();
    let (mut x, dy) = (case.normal("x", rows * d, 2.0), case.normal("dy", rows * d, 1.0));
    if rows > 1 {
        x[..d].iter_mut().for_each(|x| *x *= 1e-6);
        x[(rows - 1) * d..].fill(0.0);
    }
    let (mut y, mut norms, mut dx) = (vec![0.0; rows * d], vec![0.0; rows], vec![0.0; rows * d]);
    l2norm::forward(&mut y, &mut norms, &x, EPS);
    l2norm::backward(&mut dx, &dy, &y, &norms, EPS);

    let (x, dy) = (case.f32(&x)?, case.f32(&dy)?);
    let wide = |name: &str| -> Result<_> { Ok((name.to_owned(), gpu.upload(&vec![f32::NAN; rows * d])?)) };
    let (lengths, narrow) = (gpu.upload(&vec![f32::NAN; rows])?, gpu.upload(&vec![bf16::NAN; rows * d])?);
    let (what, unit) = wide(&format!("[{rows}, {d}]"))?;
    forward(gpu, Outputs { f32: Some(unit.view()), bf16: Some(narrow.view()) }, lengths.view(), x.view(), EPS)?;
    case.close(&format!("norms of {what}"), &gpu.read(lengths.view())?, &norms, Tolerance::f32())?;
    case.close(&format!("y of {what}"), &gpu.read(unit.view())?, &y, Tolerance::f32())?;
    let rounded: Vec<bf16> = gpu.read(unit.view())?.into_iter().map(bf16::from_f32).collect();
    case.same(&format!("bf16 y of {what}"), &gpu.read(narrow.view())?, &rounded)?;

    let (_, gradient) = wide("dx")?;
    backward(gpu, Outputs { f32: Some(gradient.view()), bf16: None }, dy.view(), unit.view(), lengths.view(), EPS)?;
    backward(gpu, Outputs { f32: None, bf16: Some(narrow.view()) }, dy.view(), unit.view(), lengths.view(), EPS)?;
    // The gradient along a row vanishes: with one value per row that is all of it.
    let gradients = gpu.read(gradient.view())?;
    for ((got, want), norm) in gradients.chunks_exact(d).zip(dx.chunks_exact(d)).zip(&norms) {
        if d > 1 || *norm <= EPS {
            case.close(&format!("dx of {what}, a row of length {norm}"), got, want, Tolerance::f32())?;
        }
    }
    let rounded: Vec<bf16> = gradients.into_iter().map(bf16::from_f32).collect();
    case.same(&format!("bf16 dx of {what}"), &gpu.read(narrow.view())?, &rounded)
}
