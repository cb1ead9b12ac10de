//! What is left out before the last convolution of UperNet at 512² pixels.

use half::bf16;

use super::Shape;
use super::cuda::apply;
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(Shape { n: 16, pixels: 128 * 128, c: 512 }, Shape { n: 2, pixels: 81, c: 64 });
    let Shape { n, pixels, c } = shape;
    let work = Work { bytes: shape.bytes(2), ..Work::default() };
    vec![Case::new(("drop_channels", "apply bf16", format!("[{n}, {pixels}, {c}]")), work, move |inputs| {
        let (x, kept) = (inputs.normal::<bf16>(shape.len())?, inputs.below(n * c, 10)?);
        // By one, so that repeated runs neither grow nor vanish.
        Ok(move |gpu: &_| apply(gpu, x.view(), kept.view(), 1.0, shape))
    })]
}
