//! What the 3×3 convolutions of UperNet on a ViT-B/16 multiply at 512² pixels: its finest level.

use half::bf16;

use super::Shape;
use super::cuda::{backward, forward};
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(Shape { n: 4, side: 128, c: 512 }, Shape { n: 1, side: 9, c: 64 });
    let (Shape { n, side, c }, [values, rows]) = (shape, shape.lens());
    let name = |kernel| ("neighbourhood", kernel, format!("[{n}, {side}², {c}]"));
    let work = Work { bytes: shape.bytes(2), ..Work::default() };
    vec![
        Case::new(name("forward bf16"), work, move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(values)?, inputs.room::<bf16>(rows)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), shape))
        }),
        Case::new(name("backward bf16"), work, move |inputs| {
            let (dy, dx) = (inputs.normal::<bf16>(rows)?, inputs.room::<bf16>(values)?);
            Ok(move |gpu: &_| backward(gpu, dx.view(), dy.view(), shape))
        }),
    ]
}
