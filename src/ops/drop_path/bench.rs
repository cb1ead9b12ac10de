//! Branches of a ViT in training, of which no image leaves any out.

use half::bf16;

use super::Shape;
use super::cuda::{backward, forward};
use crate::ops::bench::{Case, Size, Work};
use crate::ops::shapes::{Vit, vits};

/// So that replays, over a residual of zeros, change no value.
const SCALE: f32 = 1.0;
/// Numbers below it are hardly ever 0.
const LIMIT: usize = 1 << 30;

pub fn cases(size: Size) -> Vec<Case> {
    vits(size).into_iter().flat_map(|vit| [added(vit), gradient(vit)]).collect()
}

fn shape(Vit { d, images, tokens, .. }: Vit) -> Shape {
    Shape { n: images, rows: tokens, d }
}

fn name(kernel: &'static str, Shape { n, rows, d }: Shape) -> (&'static str, &'static str, String) {
    ("drop_path", kernel, format!("[{n}, {rows}, {d}]"))
}

fn added(vit: Vit) -> Case {
    let shape = shape(vit);
    let work = Work { bytes: shape.bytes(2)[0], ..Work::default() };
    Case::new(name("forward bf16", shape), work, move |inputs| {
        let (y, residual) = (inputs.normal::<bf16>(shape.len())?, inputs.room::<bf16>(shape.len())?);
        let kept = inputs.below(shape.n, LIMIT)?;
        Ok(move |gpu: &_| forward(gpu, y.view(), (residual.view(), shape.d), kept.view(), SCALE, shape))
    })
}

fn gradient(vit: Vit) -> Case {
    let shape = shape(vit);
    let work = Work { bytes: shape.bytes(2)[1], ..Work::default() };
    Case::new(name("backward bf16", shape), work, move |inputs| {
        let (dy, dx) = (inputs.normal::<bf16>(shape.len())?, inputs.room::<bf16>(shape.len())?);
        let kept = inputs.below(shape.n, LIMIT)?;
        Ok(move |gpu: &_| backward(gpu, dx.view(), dy.view(), kept.view(), SCALE, shape))
    })
}
