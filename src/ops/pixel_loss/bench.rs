//! The loss of ADE20K's 150 classes at 512² pixels, logits at a quarter of that.

use half::bf16;

use super::cuda::{backward, forward};
use super::{Loss, Shape};
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = |n, from, to| Shape { n, of: n, from, to, classes: 150 };
    let shape = size.pick(shape(16, 128, 512), shape(1, 4, 16));
    let (Shape { n, from, to, classes, .. }, [values, pixels]) = (shape, shape.lens());
    let name = |kernel| ("pixel_loss", kernel, format!("[{n}, {from}², {classes}] to {to}²"));
    let of = Loss { shape, weight: 1.0, add: false };
    let exps = (pixels * classes) as f64;
    let [there, back] = shape.bytes(2).map(|bytes| Work { bytes, ..Work::default() });
    vec![
        Case::new(name("loss f32"), Work { exps, ..there }, move |inputs| {
            let (logits, labels) = (inputs.normal(values)?, inputs.below(pixels, classes)?);
            let (losses, lse) = (inputs.room(n * to)?, inputs.room(pixels)?);
            Ok(move |gpu: &_| forward(gpu, losses.view(), lse.view(), logits.view(), labels.view(), of))
        }),
        Case::new(name("gradient bf16"), Work { exps, ..back }, move |inputs| {
            let (logits, labels) = (inputs.normal(values)?, inputs.below(pixels, classes)?);
            let (lse, d) = (inputs.normal(pixels)?, inputs.room::<bf16>(values)?);
            Ok(move |gpu: &_| backward(gpu, d.view(), logits.view(), lse.view(), labels.view(), of))
        }),
    ]
}
