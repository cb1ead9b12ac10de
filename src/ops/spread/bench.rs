//! The second transposed convolution of the neck behind a ViT-B/16 at 512² pixels.

use half::bf16;

use super::Shape;
use super::cuda::{backward, forward, scratch_len};
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(Shape { n: 16, side: 64, c: 768 }, Shape { n: 1, side: 5, c: 64 });
    let Shape { n, side, c } = shape;
    let name = |kernel| ("spread", kernel, format!("[{n}, {side}², 4·{c}]"));
    let work = Work { bytes: shape.bytes(2), ..Work::default() };
    vec![
        Case::new(name("forward, bias bf16"), work, move |inputs| {
            let (x, y, bias) =
                (inputs.normal::<bf16>(shape.len())?, inputs.room::<bf16>(shape.len())?, inputs.normal(c)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), Some(bias.view()), shape))
        }),
        Case::new(name("backward, bias bf16"), work, move |inputs| {
            let (dy, dx) = (inputs.normal::<bf16>(shape.len())?, inputs.room::<bf16>(shape.len())?);
            let (dbias, scratch) = (inputs.normal(c)?, inputs.room(scratch_len(shape))?);
            Ok(move |gpu: &_| backward(gpu, dx.view(), Some(dbias.view()), dy.view(), scratch.view(), shape))
        }),
    ]
}
