//! Conversions against the CPU, bit for bit.

use half::{bf16, f16};

use super::{cuda, to_bf16};
use crate::device::cuda::Half;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "conversion of f32 to bf16 and back", run: conversion },
    Check { name: "conversion with a factor to f16", run: |case| scaled::<f16>(case) },
    Check { name: "conversion with a factor to bf16", run: |case| scaled::<bf16>(case) },
]);

fn conversion(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for len in [1, 7, 8, 2048, 4099] {
        for offset in [0, 1] {
            let mut values = case.normal(&len.to_string(), len + offset, 1.0);
            // Ties, a carry into the exponent, the largest, what rounds to infinity, denormals, both zeros.
            let special =
                [0x3f80_8000, 0x3f81_8000, 0x3fff_ffff, 0x7f7f_0000, 0x7f7f_ffff, 0x0000_8001, 0x8000_0000, 0];
            values.iter_mut().zip(special).for_each(|(v, bits)| *v = f32::from_bits(bits));
            let mut want = vec![bf16::ZERO; len];
            to_bf16(&mut want, &values[offset..]);
            let (x, y) = (case.f32(&values)?, gpu.upload(&vec![bf16::NAN; len])?);
            cuda::to_bf16(gpu, y.view(), x.view().slice(offset..len + offset))?;
            case.same(&format!("bf16 of {len} + {offset}"), &gpu.read(y.view())?, &want)?;
            let wide = gpu.upload(&vec![f32::NAN; len + offset])?;
            cuda::to_f32(gpu, wide.view().slice(offset..len + offset), y.view())?;
            let want: Vec<f32> = want.iter().map(|value| value.to_f32()).collect();
            case.same(&format!("f32 of {len} + {offset}"), &gpu.read(wide.view())?[offset..], &want)?;
        }
    }
    Ok(())
}

fn scaled<T: Half>(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (len, offset, factor) in [(1, 0, 1.0), (7, 0, 1.0 / 0.18215), (2049, 0, 1.0 / 0.18215), (2048, 1, 3e4)] {
        let values = case.normal(&len.to_string(), len + offset, 1.0);
        let x = case.f32(&values)?;
        let y = gpu.upload(&vec![T::round(f32::NAN); len])?;
        cuda::scaled(gpu, y.view(), x.view().slice(offset..len + offset), factor)?;
        let want: Vec<T> = values[offset..].iter().map(|&v| T::round(v * factor)).collect();
        case.same(&format!("{len} + {offset} values times {factor}"), &gpu.read(y.view())?, &want)?;
    }
    Ok(())
}
