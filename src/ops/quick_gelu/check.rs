//! The activation and its gradient against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::quick_gelu::{backward_in_place, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "quick gelu forward and backward", run: every_length }]);

fn every_length(case: &Case) -> Result<()> {
    for len in [8, 2040, 2048, 4104] {
        compare(case, len)?;
    }
    Ok(())
}

/// Values on both sides of zero, and some so large that the gate is 0 or 1.
fn compare(case: &Case, len: usize) -> Result<()> {
    let gpu = case.gpu();
    let mut values = case.normal("x", len, 2.0);
    values.iter_mut().zip([90.0, -90.0, 0.0]).for_each(|(x, special)| *x = special);
    let ((x, xs), (dx, dxs)) = (case.bf16(&values)?, case.bf16(&case.normal("dy", len, 1.0))?);
    let (mut want, mut gradient) = (vec![0.0; len], dxs);
    forward(&mut want, &xs);
    backward_in_place(&mut gradient, &xs);
    let y = gpu.upload(&vec![bf16::NAN; len])?;
    cuda::forward(gpu, y.view(), x.view())?;
    case.close(&format!("y of {len}"), &case.read_bf16(y.view())?, &want, Tolerance::bf16())?;
    cuda::backward_in_place(gpu, dx.view(), x.view())?;
    case.close(&format!("dx of {len}"), &case.read_bf16(dx.view())?, &gradient, Tolerance::bf16())
}
