//! The loss of a fine-tuned ViT-B/16 on ImageNet.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::soft_labels::Shape;
use crate::ops::soft_labels::cuda::{Labels, forward};

pub fn cases(size: Size) -> Vec<Case> {
    let rows = size.pick(1024, 8);
    let shape = Shape { rows, of: rows, classes: 1000, smoothing: 0.1 };
    let work = Work { bytes: shape.bytes(2), ..Work::default() };
    let name = ("soft_labels", "loss and gradient", format!("[{rows}, {}]", shape.classes));
    vec![Case::new(name, work, move |inputs| {
        let (x, dx, losses) = (inputs.normal(shape.len())?, inputs.room::<bf16>(shape.len())?, inputs.room(rows)?);
        let (a, b) = (inputs.below(rows, shape.classes)?, inputs.below(rows, shape.classes)?);
        // Bits of numbers near 0.
        let shares = inputs.below(rows, 1 << 20)?;
        Ok(move |gpu: &_| {
            let labels = Labels { both: [a.view(), b.view()], shares: shares.view() };
            forward(gpu, dx.view(), losses.view(), x.view(), labels, shape)
        })
    })]
}
