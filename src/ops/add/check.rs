//! Sums against the CPU, bit for bit.

use half::bf16;

use crate::error::Result;
use crate::ops::add::{cuda, forward};
use crate::ops::check::{Case, Check, Checks};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "add", run: every_length }]);

fn every_length(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for len in [8, 2040, 2048, 4104] {
        let ((y, mut want), (x, xs)) =
            (case.bf16(&case.normal("y", len, 1.0))?, case.bf16(&case.normal("x", len, 1.0))?);
        forward(&mut want, &xs);
        let want: Vec<bf16> = want.into_iter().map(bf16::from_f32).collect();
        cuda::forward(gpu, y.view(), x.view())?;
        case.same(&format!("sum of {len}"), &gpu.read(y.view())?, &want)?;
    }
    Ok(())
}
