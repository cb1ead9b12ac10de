//! Launches of `kernels/distill.cu`.

use half::bf16;

use super::{CENTRE, Shape};
use crate::device::cuda::kernels::distill::THREADS;
use crate::device::cuda::{Gpu, Launch, View, kernels};
use crate::error::Result;
use crate::ops::reduce::cuda::Loss;

/// Length of the scratch memory: log-sum-exps of all rows, and an f64 for each of the student's.
pub fn scratch_len(shape: Shape) -> usize {
    let [rows, of_teacher] = shape.rows();
    2 * rows + rows + of_teacher
}

/// What the loss looks at.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub shape: Shape,
    pub student: View<f32>,
    pub teacher: View<f32>,
    pub centre: View<f32>,
    /// 1/τt, `[1]`.
    pub sharpness: View<f32>,
    /// [`scratch_len`] values from a multiple of 8 bytes on.
    pub scratch: View<f32>,
}

/// `loss [1]`, and `ds`, its gradient for the student's logits; both overwritten.
pub fn forward(gpu: &Gpu, loss: View<f32>, ds: View<bf16>, batch: Batch) -> Result<()> {
    let Batch { shape, student: s, teacher: t, centre, sharpness: sharpness_t, scratch } = batch;
    shape.check(s.len(), t.len(), centre.len());
    assert!(ds.len() == s.len() && loss.len() == 1 && sharpness_t.len() == 1, "distill: {batch:?}");
    assert!(scratch.len() >= scratch_len(shape) && scratch.is_aligned(8), "distill: scratch of {shape:?}");
    let [rows, of_teacher] = shape.rows();
    assert!(rows < 1 << 30 && shape.classes < 1 << 30, "distill: {shape:?} is too large");
    let losses = scratch.slice(0..2 * rows).cast::<f64>();
    let (lse, lse_t) = (scratch.slice(2 * rows..3 * rows), scratch.slice(3 * rows..3 * rows + of_teacher));
    let (classes, sharpness) = (shape.classes as u32, 1.0 / shape.temperature);
    let block = |rows: usize| Launch::new(rows, THREADS as u32);
    kernels::DistillRows { lse, x: s, centre: None, sharpness: None, constant: sharpness, classes }
        .launch(gpu, block(rows))?;
    let (centred, sharpened) = (Some(centre), Some(sharpness_t));
    kernels::DistillRows { lse: lse_t, x: t, centre: centred, sharpness: sharpened, constant: 0.0, classes }
        .launch(gpu, block(of_teacher))?;
    kernels::DistillGradient {
        losses,
        ds,
        s,
        lse,
        t,
        lse_t,
        centre,
        sharpness_t,
        sharpness,
        scale: shape.share() * sharpness,
        images: shape.images as u32,
        teachers: shape.teachers as u32,
        classes,
    }
    .launch(gpu, block(rows))?;
    Loss::new(loss, shape.share(), false).put(gpu, losses)
}

/// Moves `centre [K]` by the teacher's logits `t [rows, K]`.
pub fn centre(gpu: &Gpu, centre: View<f32>, t: View<f32>) -> Result<()> {
    let classes = centre.len();
    assert!(classes > 0 && !t.is_empty() && t.len().is_multiple_of(classes), "distill: the centre of {classes}");
    let (rows, at) = (t.len() / classes, Launch::new(classes.div_ceil(THREADS), THREADS as u32));
    kernels::DistillCentre { centre, t, keep: CENTRE, rows: rows as u32, classes: classes as u32 }.launch(gpu, at)
}
