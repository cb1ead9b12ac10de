//! Self-distillation against the CPU op.

use half::bf16;

use crate::bail;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::distill::cuda::{Batch, centre, forward, scratch_len};
use crate::ops::distill::{self, Shape};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "distill loss, gradient and centre", run: every_shape },
    Check { name: "distill not a number", run: not_a_number },
]);

fn every_shape(case: &Case) -> Result<()> {
    for (images, views, teachers, classes) in
        [(1, 2, 1, 1), (2, 3, 2, 3), (5, 2, 2, 100), (3, 4, 2, 1030), (1, 2, 2, 257)]
    {
        for sharpness in [25.0, 14.0] {
            compare(case, Shape { images, views, teachers, classes, temperature: 0.1 }, sharpness)?;
        }
    }
    if case.full() {
        compare(case, Shape { images: 64, views: 10, teachers: 2, classes: 65_536, temperature: 0.1 }, 25.0)?;
    }
    Ok(())
}

/// Loss, gradient and the centre behind it, on the device.
fn on_device(case: &Case, [s, t, c]: [&[f32]; 3], sharpness: f32, shape: Shape) -> Result<(f32, Vec<f32>, Vec<f32>)> {
    let gpu = case.gpu();
    let (student, teacher, middle, sharp) = (case.f32(s)?, case.f32(t)?, case.f32(c)?, case.f32(&[sharpness])?);
    let (found, gradient) = (gpu.upload(&[f32::NAN])?, gpu.upload(&vec![bf16::NAN; s.len()])?);
    let scratch = gpu.upload(&vec![f32::NAN; scratch_len(shape)])?;
    let batch = Batch {
        shape,
        student: student.view(),
        teacher: teacher.view(),
        centre: middle.view(),
        sharpness: sharp.view(),
        scratch: scratch.view(),
    };
    forward(gpu, found.view(), gradient.view(), batch)?;
    centre(gpu, middle.view(), teacher.view())?;
    Ok((gpu.read(found.view())?[0], case.read_bf16(gradient.view())?, gpu.read(middle.view())?))
}

fn compare(case: &Case, shape: Shape, sharpness: f32) -> Result<()> {
    let [rows, of_teacher] = shape.rows();
    let s = case.normal("student", rows * shape.classes, 0.3);
    let t = case.normal("teacher", of_teacher * shape.classes, 0.1);
    let mut c = case.normal("centre", shape.classes, 0.1);
    let (got, gradient, moved) = on_device(case, [&s, &t, &c], sharpness, shape)?;
    let mut ds = vec![0.0; s.len()];
    let loss = distill::forward(&mut ds, &s, &t, &c, sharpness, shape);
    // One class has nothing to tell: loss and gradient are 0.
    case.close(&format!("loss of {shape:?}"), &[got + 1.0], &[loss as f32 + 1.0], Tolerance::f32())?;
    if shape.classes > 1 {
        case.close(&format!("gradient of {shape:?}"), &gradient, &ds, Tolerance::bf16())?;
    }
    distill::centre(&mut c, &t);
    case.close(&format!("centre of {shape:?}"), &moved, &c, Tolerance::f32())
}

/// A broken logit of either side must reach the loss.
fn not_a_number(case: &Case) -> Result<()> {
    let shape = Shape { images: 2, views: 2, teachers: 2, classes: 300, temperature: 0.1 };
    for broken in [false, true] {
        let mut sides = [case.normal("student", 1200, 0.3), case.normal("teacher", 1200, 0.3)];
        sides[usize::from(broken)][700] = f32::NAN;
        let (loss, ..) = on_device(case, [&sides[0], &sides[1], &[0.0; 300]], 25.0, shape)?;
        if !loss.is_nan() {
            bail!(Failed, "a logit that is not a number gave the loss {loss}");
        }
    }
    Ok(())
}
