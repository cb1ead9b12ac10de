//! The pyramid of pooled maps of UperNet on a ViT-B/16 at 512² pixels: its fewest and its most bins.

use half::bf16;

use super::Shape;
use super::cuda::{backward, forward};
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = |bins| size.pick(Shape { n: 16, side: 16, bins, c: 768 }, Shape { n: 1, side: 8, bins, c: 64 });
    [1, 6].into_iter().flat_map(|bins| both(shape(bins))).collect()
}

fn both(shape: Shape) -> [Case; 2] {
    let (Shape { n, side, bins, c }, [before, behind]) = (shape, shape.lens());
    let name = |kernel| ("grid_pool", kernel, format!("[{n}, {side}², {c}] to {bins}²"));
    let [there, back] = shape.bytes(2).map(|bytes| Work { bytes, ..Work::default() });
    [
        Case::new(name("forward bf16"), there, move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(before)?, inputs.room::<bf16>(behind)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), shape))
        }),
        Case::new(name("backward bf16"), back, move |inputs| {
            let (dy, dx) = (inputs.normal::<bf16>(behind)?, inputs.normal::<bf16>(before)?);
            Ok(move |gpu: &_| backward(gpu, dx.view(), dy.view(), shape))
        }),
    ]
}
