//! Activations of stored values against the CPU.

use half::bf16;

use super::{cuda, gelu};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};

pub const CHECKS: Checks = Checks::quick(&[Check { name: "GELU of bf16", run: forward }]);

fn forward(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (len, offset, in_place) in [(1, 0, false), (7, 0, true), (2048, 0, true), (4099, 0, false), (300, 1, false)] {
        let (x, values) = case.bf16(&case.normal(&len.to_string(), len + offset, 3.0))?;
        let mut want = values[offset..].to_vec();
        gelu(&mut want);
        let from = x.view().slice(offset..offset + len);
        let y = gpu.upload(&vec![bf16::NAN; len])?;
        let to = if in_place { from } else { y.view() };
        cuda::gelu(gpu, to, from)?;
        case.close(&format!("{len} + {offset} values"), &case.read_bf16(to)?, &want, Tolerance::bf16())?;
    }
    Ok(())
}
