//! Activations of stored values and their gradients against the CPU.

use half::bf16;

use super::{cuda, gelu_of, quick_gelu_backward, quick_gelu_of};
use crate::device::cuda::{Gpu, View};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "GELU of bf16", run: |case| forward(case, cuda::gelu, gelu_of) },
    Check { name: "quick GELU of bf16", run: |case| forward(case, cuda::quick_gelu, quick_gelu_of) },
    Check { name: "gradient of quick GELU, bf16", run: backward },
]);

/// Lengths, values before the first, and whether in place.
const CASES: [(usize, usize, bool); 5] =
    [(1, 0, false), (7, 0, true), (2048, 0, true), (4099, 0, false), (300, 1, false)];

/// Values on both sides of zero, the last of them so large that a gate is 1 or 0.
fn values(case: &Case, len: usize) -> Vec<f32> {
    let mut values = case.normal(&len.to_string(), len, 3.0);
    values.iter_mut().rev().zip([90.0, -90.0, 0.0]).take(len / 3).for_each(|(x, special)| *x = special);
    values
}

fn forward(
    case: &Case,
    run: fn(&Gpu, View<bf16>, View<bf16>) -> Result<()>,
    reference: fn(&mut [f32], &[f32]),
) -> Result<()> {
    let gpu = case.gpu();
    for (len, offset, in_place) in CASES {
        let (x, values) = case.bf16(&values(case, len + offset))?;
        let mut want = vec![0.0; len];
        reference(&mut want, &values[offset..]);
        let from = x.view().slice(offset..offset + len);
        let y = gpu.upload(&vec![bf16::NAN; len])?;
        let to = if in_place { from } else { y.view() };
        run(gpu, to, from)?;
        case.close(&format!("{len} + {offset} values"), &case.read_bf16(to)?, &want, Tolerance::bf16())?;
    }
    Ok(())
}

fn backward(case: &Case) -> Result<()> {
    for (len, offset, _) in CASES {
        let ((x, xs), (dx, dxs)) =
            (case.bf16(&values(case, len + offset))?, case.bf16(&case.normal("dy", len + offset, 1.0))?);
        let mut want = dxs[offset..].to_vec();
        quick_gelu_backward(&mut want, &xs[offset..]);
        let [dx, x] = [&dx, &x].map(|values| values.view().slice(offset..offset + len));
        cuda::quick_gelu_backward(case.gpu(), dx, x)?;
        case.close(&format!("{len} + {offset} values"), &case.read_bf16(dx)?, &want, Tolerance::bf16())?;
    }
    Ok(())
}
