//! BYOL's loss over both views of 4,096 images.

use crate::ops::bench::{Case, Size, Work};
use crate::ops::cosine::Shape;
use crate::ops::cosine::cuda::{forward, scratch_len};

pub fn cases(size: Size) -> Vec<Case> {
    let (rows, dim) = (size.pick(8192, 128), 256);
    let (len, shape) = (rows * dim, Shape { rows, dim, shift: rows / 2, factor: 2.0 });
    let work = Work { bytes: (12 * len) as f64, ..Work::default() };
    vec![Case::new(("cosine", "loss and gradient", format!("[{rows}, {dim}]")), work, move |inputs| {
        let (x, y, dx) = (inputs.normal(len)?, inputs.normal(len)?, inputs.room(len)?);
        let (loss, scratch) = (inputs.room(1)?, inputs.room(scratch_len(shape))?);
        Ok(move |gpu: &_| forward(gpu, loss.view(), dx.view(), [x.view(), y.view()], scratch.view(), shape))
    })]
}
