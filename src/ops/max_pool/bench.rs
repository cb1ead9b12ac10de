//! The coarsest level of the neck behind a ViT-B/16 at 512² pixels.

use half::bf16;

use super::Shape;
use super::cuda::{backward, forward};
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(Shape { n: 16, side: 32, c: 768 }, Shape { n: 1, side: 9, c: 64 });
    let (Shape { n, side, c }, [before, behind]) = (shape, shape.lens());
    let name = |kernel| ("max_pool", kernel, format!("[{n}, {side}², {c}]"));
    let [there, back] = shape.bytes(2).map(|bytes| Work { bytes, ..Work::default() });
    vec![
        Case::new(name("forward bf16"), there, move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(before)?, inputs.room::<bf16>(behind)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), shape))
        }),
        Case::new(name("backward bf16"), back, move |inputs| {
            let (x, dy) = (inputs.normal::<bf16>(before)?, inputs.normal::<bf16>(behind)?);
            let dx = inputs.room::<bf16>(before)?;
            Ok(move |gpu: &_| backward(gpu, dx.view(), dy.view(), x.view(), shape))
        }),
    ]
}
