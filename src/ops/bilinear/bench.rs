//! UperNet's levels on a ViT-B/16 at 512² pixels: by two down the pyramid, by eight to its finest level, and from a
//! pooled map of 6² bins.

use half::bf16;

use super::Shape;
use super::cuda::{backward, forward};
use crate::ops::bench::{Case, Size, Work};

pub fn cases(size: Size) -> Vec<Case> {
    let shape = |from, to, columns| Shape { n: 16, lead: 0, from, to, c: 512, column: 0, columns };
    let full = vec![shape(64, 128, 512), shape(16, 128, 2048), shape(6, 16, 2816)];
    let reduced = |from, to| Shape { n: 1, lead: 0, from, to, c: 64, column: 0, columns: 128 };
    size.pick(full, vec![reduced(4, 8), reduced(1, 8)]).into_iter().flat_map(both).collect()
}

fn both(shape: Shape) -> [Case; 2] {
    let (Shape { n, from, to, c, columns, .. }, [before, behind]) = (shape, shape.lens());
    let name = |kernel| ("bilinear", kernel, format!("[{n}, {from}², {c}] to {to}² of {columns}"));
    let work = Work { bytes: shape.bytes(2), ..Work::default() };
    [
        Case::new(name("forward bf16"), work, move |inputs| {
            let (x, y) = (inputs.normal::<bf16>(before)?, inputs.room::<bf16>(behind)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), x.view(), shape, false))
        }),
        Case::new(name("backward bf16"), work, move |inputs| {
            let (dy, dx) = (inputs.normal::<bf16>(behind)?, inputs.room::<bf16>(before)?);
            Ok(move |gpu: &_| backward(gpu, dx.view(), dy.view(), shape, false))
        }),
    ]
}
