//! Scaled rows, their gradients and the bounds of the scale against the CPU op.

use half::bf16;

use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::logit_scale::{BOUNDS, backward, clamp, cuda, forward};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "logit scale forward and backward", run: every_length },
    Check { name: "logit scale, bounds", run: bounds },
]);

fn every_length(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (len, scale) in [(1, 0.0), (1023, 2.6), (1024, 4.6), (5000, 2.6)] {
        let what = format!("{len} values, s {scale}");
        let (x, dy) = (case.normal("x", len, 0.1), case.normal("dy", len, 0.1));
        let (mut y, mut dx, mut ds) = (vec![0.0; len], vec![0.0; len], 0.25);
        forward(&mut y, &x, scale);
        backward(&mut dx, &mut ds, &dy, &y, scale);
        let (s, gradient) = (gpu.upload(&[scale])?, gpu.upload(&[0.25f32])?);
        let [to, dto] = [(); 2].map(|()| gpu.upload(&vec![f32::NAN; len]));
        let (to, dto, scratch) = (to?, dto?, gpu.upload(&vec![f32::NAN; cuda::scratch_len(len)])?);
        cuda::forward(gpu, to.view(), case.f32(&x)?.view(), s.view())?;
        case.close(&format!("y of {what}"), &gpu.read(to.view())?, &y, Tolerance::f32())?;
        let into = (dto.view(), gradient.view());
        cuda::backward(gpu, into, case.f32(&dy)?.view(), to.view(), s.view(), scratch.view())?;
        case.close(&format!("dx of {what}"), &gpu.read(dto.view())?, &dx, Tolerance::f32())?;
        case.close(&format!("ds of {what}"), &gpu.read(gradient.view())?, &[ds], Tolerance::f32())?;
    }
    Ok(())
}

fn bounds(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for value in [-0.5, BOUNDS[0], 2.659_26, BOUNDS[1], 5.0] {
        let mut want = value;
        clamp(&mut want);
        let (s, rounded) = (gpu.upload(&[value])?, gpu.upload(&[bf16::NAN])?);
        cuda::clamp(gpu, s.view(), rounded.view())?;
        case.same(&format!("{value} in its bounds"), &gpu.read(s.view())?, &[want])?;
        case.same(&format!("{value}, rounded"), &gpu.read(rounded.view())?, &[bf16::from_f32(want)])?;
    }
    Ok(())
}
