//! Positions of DINO's small crops: 14×14 places become 6×6.

use super::Shape;
use super::cuda::{backward, forward};
use crate::ops::bench::{Case, Size, Work};
use crate::ops::shapes::{Vit, vits};

pub fn cases(size: Size) -> Vec<Case> {
    vits(size).into_iter().flat_map(|Vit { d, .. }| both(Shape { from: 14, to: 6, d })).collect()
}

fn both(shape: Shape) -> [Case; 2] {
    let ([before, behind], Shape { from, to, d }) = (shape.lens(), shape);
    let name = |kernel| ("interpolate", kernel, format!("[{from}², {d}] to {to}²"));
    let work = |values: usize| Work { bytes: (4 * values) as f64, ..Work::default() };
    [
        Case::new(name("forward f32"), work(before + behind), move |inputs| {
            let (pos, y) = (inputs.normal::<f32>(before)?, inputs.room::<f32>(behind)?);
            Ok(move |gpu: &_| forward(gpu, y.view(), pos.view(), shape))
        }),
        Case::new(name("backward f32"), work(2 * before + behind), move |inputs| {
            let (dy, dpos) = (inputs.normal::<f32>(behind)?, inputs.room::<f32>(before)?);
            Ok(move |gpu: &_| backward(gpu, dpos.view(), dy.view(), shape))
        }),
    ]
}
