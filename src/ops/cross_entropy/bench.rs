//! The linear probe's loss: many heads side by side over 1,000 classes; f32 logits become their gradient in place.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::cross_entropy::Shape;
use crate::ops::cross_entropy::cuda::gradient_in_place;

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(Shape { rows: 4096, heads: 13, classes: 1000 }, Shape { rows: 16, heads: 3, classes: 1000 });
    let Shape { rows, heads, classes } = shape;
    let values = rows * heads * classes;
    // Logits read, gradient written as f32 and bf16.
    let work = Work { bytes: 10.0 * values as f64, exps: values as f64, ..Work::default() };
    let name = ("cross_entropy", "gradient in place", format!("[{rows}, {heads}, {classes}]"));
    vec![Case::new(name, work, move |inputs| {
        let (x, rounded) = (inputs.normal(values)?, inputs.room::<bf16>(values)?);
        let (labels, losses) = (inputs.below(rows, classes)?, inputs.room(rows * heads)?);
        let scale = 1.0 / rows as f32;
        Ok(move |gpu: &_| {
            gradient_in_place(gpu, losses.view(), x.view(), Some(rounded.view()), labels.view(), scale, shape)
        })
    })]
}
