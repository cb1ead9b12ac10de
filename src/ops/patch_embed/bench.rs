//! Patches of pictures of 224² and their embedding, bf16; the product between is a linear layer's.

use half::bf16;

use crate::ops::augment::Scales;
use crate::ops::bench::{Case, Size, Work};
use crate::ops::patch_embed::Shape;
use crate::ops::patch_embed::cuda::{Weights, backward, scratch_len, tokens, unfold};
use crate::ops::shapes::vits;

const OP: &str = "patch_embed";

pub fn cases(size: Size) -> Vec<Case> {
    let side = size.pick(224, 64);
    let shapes = vits(size).into_iter().map(|vit| Shape {
        n: vit.images,
        height: side,
        width: side,
        channels: 3,
        patch: 16,
        dim: vit.d,
        leading: 1,
    });
    shapes.flat_map(|shape| [unfolded(shape), embedded(shape), gradient(shape)]).collect()
}

fn memory(bytes: usize) -> Work {
    Work { bytes: bytes as f64, ..Work::default() }
}

fn name(kernel: &'static str, shape: Shape) -> (&'static str, &'static str, String) {
    (OP, kernel, format!("[{}, {}, {}]", shape.n, shape.tokens(), shape.dim))
}

fn unfolded(shape: Shape) -> Case {
    let values = shape.n * shape.patches() * shape.patch_len();
    Case::new(name("unfold bf16", shape), memory(3 * values), move |inputs| {
        let (images, patches) = (inputs.bytes(values)?, inputs.room::<bf16>(values)?);
        Ok(move |gpu: &_| unfold(gpu, patches.view(), images.view(), Scales::default(), shape))
    })
}

fn embedded(shape: Shape) -> Case {
    let Shape { n, dim, .. } = shape;
    let (all, products) = (n * shape.tokens() * dim, n * shape.patches() * dim);
    Case::new(name("tokens bf16", shape), memory(2 * all + 2 * products), move |inputs| {
        let (from, to) = (inputs.normal::<bf16>(products)?, inputs.room::<bf16>(all)?);
        let (b, cls, pos) = (inputs.normal(dim)?, inputs.normal(dim)?, inputs.normal(shape.tokens() * dim)?);
        Ok(move |gpu: &_| {
            let weights = Weights { b: b.view(), cls: cls.view(), pos: pos.view() };
            tokens(gpu, to.view(), from.view(), weights, shape)
        })
    })
}

fn gradient(shape: Shape) -> Case {
    let Shape { n, dim, .. } = shape;
    let (all, products) = (n * shape.tokens() * dim, n * shape.patches() * dim);
    let work = memory(2 * all + 2 * products + 8 * scratch_len(shape));
    Case::new(name("backward bf16", shape), work, move |inputs| {
        let (dtokens, dembedded) = (inputs.normal::<bf16>(all)?, inputs.room::<bf16>(products)?);
        let (b, cls, pos) = (inputs.room(dim)?, inputs.room(dim)?, inputs.room(shape.tokens() * dim)?);
        let scratch = inputs.room(scratch_len(shape))?;
        Ok(move |gpu: &_| {
            let gradients = Weights { b: b.view(), cls: cls.view(), pos: pos.view() };
            backward(gpu, gradients, dembedded.view(), dtokens.view(), scratch.view(), shape)
        })
    })
}
