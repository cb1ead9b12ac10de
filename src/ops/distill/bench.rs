//! DINO's loss over 65,536 classes: two views of 128 images, both seen by the teacher.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::distill::Shape;
use crate::ops::distill::cuda::{Batch, forward, scratch_len};

pub fn cases(size: Size) -> Vec<Case> {
    let (images, classes) = size.pick((128, 65_536), (2, 1024));
    let shape = Shape { images, views: 2, teachers: 2, classes, temperature: 0.1 };
    let logits = 2 * images * classes;
    // Both sides' logits, read for the sums and for the gradient, which is written in bf16.
    let work = Work { bytes: (18 * logits) as f64, exps: (5 * logits) as f64, ..Work::default() };
    vec![Case::new(("distill", "loss and gradient", format!("[{}, {classes}]", 2 * images)), work, move |inputs| {
        let (s, t, centre) = (inputs.normal(logits)?, inputs.normal(logits)?, inputs.normal(classes)?);
        let (ds, loss, scratch) = (inputs.room::<bf16>(logits)?, inputs.room(1)?, inputs.room(scratch_len(shape))?);
        let sharpness = inputs.upload(&[25.0f32])?;
        Ok(move |gpu: &_| {
            let batch = Batch {
                shape,
                student: s.view(),
                teacher: t.view(),
                centre: centre.view(),
                sharpness: sharpness.view(),
                scratch: scratch.view(),
            };
            forward(gpu, loss.view(), ds.view(), batch)
        })
    })]
}
