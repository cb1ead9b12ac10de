//! Long sums, and the search for values that are not finite, against the CPU.

use half::{bf16, f16};

use crate::bail;
use crate::device::cuda::{Half, View};
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::reduce::cuda::{Number, absmax, add_partials, find_not_finite, scratch_len, sum_of_squares};
use crate::ops::reduce::{self};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "sums of partial sums", run: partials },
    Check { name: "sum of squares", run: squares },
    Check { name: "search for values that are not finite", run: not_finite },
    Check { name: "absmax f16", run: |case| largest::<f16>(case) },
    Check { name: "absmax bf16", run: |case| largest::<bf16>(case) },
]);

fn partials(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (count, cols) in [(1, 1), (3, 31), (33, 64), (300, 33), (1024, 8)] {
        for outputs in [1, 2] {
            let values = case.normal(&format!("{count} {cols} {outputs}"), count * outputs * cols, 1.0);
            let start = case.normal("start", cols * outputs, 1.0);
            let mut want: Vec<f64> = start.iter().map(|&v| v.into()).collect();
            for partial in values.chunks_exact(outputs * cols) {
                want.iter_mut().zip(partial).for_each(|(sum, &v)| *sum += f64::from(v));
            }
            let want: Vec<f32> = want.into_iter().map(|v| v as f32).collect();
            let (partials, out) = (case.f32(&values)?, case.f32(&start)?);
            let second = (outputs == 2).then(|| out.view().slice(cols..2 * cols));
            add_partials(gpu, out.view().slice(0..cols), second, partials.view())?;
            let what = format!("{outputs} sums over {count} of {cols}");
            case.close(&what, &gpu.read(out.view())?, &want, Tolerance::f32())?;
        }
    }
    Ok(())
}

/// Lengths about a block's 32,768 values; magnitudes whose squares f32 cannot hold.
fn squares(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let mut lengths = vec![1, 3, 4, 1023, 32_768, 32_771, 100_003];
    if case.full() {
        lengths.push(50_000_001);
    }
    for len in lengths {
        for (std, offset) in [(1.0, 0), (1e-25, 0), (1e30, 0), (1.0, 1)] {
            let values = case.normal(&len.to_string(), len + offset, std);
            let want = reduce::sum_of_squares(&values[offset..]);
            let (x, total) = (case.f32(&values)?, gpu.upload(&[f64::NAN])?);
            let scratch = gpu.upload(&vec![f64::NAN; scratch_len(len)])?;
            sum_of_squares(gpu, total.view(), x.view().slice(offset..len + offset), scratch.view())?;
            let got = gpu.read(total.view())?[0];
            // Not `>`: a NaN must fail.
            let within = (got - want).abs() <= 1e-12 * want;
            if !within {
                bail!(Failed, "sum of squares of {len} values of {std:e}: got {got:e}, expected {want:e}");
            }
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = case.normal("finite", len, 1.0);
            values[len - 1] = bad;
            let (x, total, scratch) = (case.f32(&values)?, gpu.alloc::<f64>(1)?, gpu.alloc(scratch_len(len))?);
            sum_of_squares(gpu, total.view(), x.view(), scratch.view())?;
            let got = gpu.read(total.view())?[0];
            if got.is_finite() {
                bail!(Failed, "sum of squares of {len} values, the last {bad}: got {got:e}");
            }
        }
    }
    Ok(())
}

/// The one bad value at the beginning, in the middle and at the very end.
fn not_finite(case: &Case) -> Result<()> {
    for len in [1, 2, 9, 255, 32_769] {
        let values = case.normal(&len.to_string(), len, 1e30);
        for at in [None, Some(0), Some(len / 2), Some(len - 1)] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = values.clone();
                if let Some(at) = at {
                    values[at] = bad;
                }
                let (narrow, _) = case.bf16(&values)?;
                expect_flag(case, case.f32(&values)?.view(), at.is_some())?;
                expect_flag(case, narrow.view(), at.is_some())?;
                if len > 2 {
                    let rest = at.is_some_and(|at| at > 0);
                    expect_flag(case, case.f32(&values)?.view().slice(1..len), rest)?;
                    expect_flag(case, narrow.view().slice(1..len), rest)?;
                }
            }
        }
    }
    Ok(())
}

fn expect_flag<T: Number>(case: &Case, x: View<T>, want: bool) -> Result<()> {
    let flag = case.gpu().zeros(1)?;
    find_not_finite(case.gpu(), flag.view(), x)?;
    case.same(&format!("flag of {} values", x.len()), &case.gpu().read(flag.view())?, &[u32::from(want)])
}

/// The one largest value at the beginning, in the middle and at the very end, of either sign; slots that hold more,
/// less and −0; two tensors in one slot; what is no finite number.
fn largest<T: Half>(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    let of = |x: View<T>, start: f32| -> Result<f32> {
        let slot = gpu.upload(&[start])?;
        absmax(gpu, slot.view(), x)?;
        Ok(gpu.read(slot.view())?[0])
    };
    for (len, offset) in [(1, 0), (7, 0), (8, 0), (2049, 1), (32_768, 0), (100_003, 0), (40_000, 1)] {
        let values = case.normal(&len.to_string(), len + offset, 1.0);
        for (at, value) in [(0, 9.5), (len / 2, -10.25), (len - 1, 12.0)] {
            let mut values = values.clone();
            values[offset + at] = value;
            // Not in the slice.
            values[..offset].fill(1000.0);
            let (x, _) = case.half::<T>(&values)?;
            let x = x.view().slice(offset..len + offset);
            let what = |start: f32| format!("absmax of {len} + {offset} values, {value} at {at}, from {start}");
            for (start, want) in
                [(0.0, value.abs()), (-0.0, value.abs()), (11.0, 11.0f32.max(value.abs())), (1e30, 1e30)]
            {
                case.same(&what(start), &[of(x, start)?], &[want])?;
            }
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[offset + at] = bad;
                let (x, _) = case.half::<T>(&values)?;
                let got = of(x.view().slice(offset..len + offset), 3.0)?;
                if got.is_nan() != bad.is_nan() || got.is_finite() {
                    bail!(Failed, "{}: {bad} in its place gives {got}", what(3.0));
                }
            }
        }
    }
    Ok(())
}
