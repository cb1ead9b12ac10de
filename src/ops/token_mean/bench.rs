//! The features of ViT-B/16 that pools globally, and their gradient.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::token_mean::Shape;
use crate::ops::token_mean::cuda::{backward, forward};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(Shape { n: 512, tokens: 197, d: 768 }, Shape { n: 2, tokens: 17, d: 64 });
    let Shape { n, tokens, d } = shape;
    let name = |kernel| ("token_mean", kernel, format!("[{n}, {tokens}, {d}]"));
    let work = Work { bytes: shape.bytes(2), ..Work::default() };
    vec![
        Case::new(name("forward bf16"), work, move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(n * tokens * d)?, inputs.room::<bf16>(n * d)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), shape))
        }),
        Case::new(name("backward bf16"), work, move |inputs| {
            let (dx, dy) = (inputs.room::<bf16>(n * tokens * d)?, inputs.normal::<bf16>(n * d)?);
            Ok(move |gpu: &_| backward(gpu, dx.view(), dy.view(), shape))
        }),
    ]
}
