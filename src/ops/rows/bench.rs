//! Rows of a masked autoencoder of three quarters, bf16: what it keeps of ViT-B/16's patches, what its decoder of width
//! 512 is given, and the gradient of the mask token.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::rows::Shape;
use crate::ops::rows::cuda::{Places, fill_backward, place, scratch_len, take};

pub fn cases(size: Size) -> Vec<Case> {
    let n = size.pick(512, 2);
    let kept = Shape { n, from: 196, to: 49, d: 768 };
    let placed = Shape { n, from: 50, to: 197, d: 512 };
    vec![taken(kept), put(placed), gradient(placed)]
}

fn name(kernel: &'static str, shape: Shape) -> (&'static str, &'static str, String) {
    ("rows", kernel, format!("[{}, {}, {}]", shape.n, shape.to, shape.d))
}

fn taken(shape: Shape) -> Case {
    let Shape { n, from, to, d } = shape;
    Case::new(name("take bf16", shape), Work { bytes: shape.bytes(2), ..Work::default() }, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(n * from * d)?, inputs.room::<bf16>(n * to * d)?);
        let rows = inputs.below(n * to, from)?;
        Ok(move |gpu: &_| take(gpu, y.view(), x.view(), rows.view(), shape))
    })
}

fn put(shape: Shape) -> Case {
    let Shape { n, from, to, d } = shape;
    Case::new(name("place bf16", shape), Work { bytes: shape.bytes(2), ..Work::default() }, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(n * from * d)?, inputs.room::<bf16>(n * to * d)?);
        let (fill, pos) = (inputs.normal(d)?, inputs.normal(to * d)?);
        let rows = inputs.below(n * to, to)?;
        Ok(move |gpu: &_| {
            let places = Places { rows: rows.view(), at: None };
            place(gpu, y.view(), x.view(), [fill.view(), pos.view()], places, shape)
        })
    })
}

fn gradient(shape: Shape) -> Case {
    let Shape { n, to, d, .. } = shape;
    Case::new(name("fill bf16", shape), Work { bytes: shape.bytes(1), ..Work::default() }, move |inputs| {
        let (dy, dfill) = (inputs.normal::<bf16>(n * to * d)?, inputs.room(d)?);
        let (rows, scratch) = (inputs.below(n * to, to)?, inputs.room(scratch_len(shape))?);
        Ok(move |gpu: &_| fill_backward(gpu, dfill.view(), dy.view(), rows.view(), scratch.view(), shape))
    })
}
