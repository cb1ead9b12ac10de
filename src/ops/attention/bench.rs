//! Attention of the generator, f16 and the first of each kind in bf16: the UNet's over its own pixels and over the text, the decoder's, the text encoder's.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::ops::attention::Shape;
use crate::ops::attention::cuda::{Heads, cross, forward};
use crate::ops::bench::{Case, Number, Size, Work, in_both_types, stored};
use crate::ops::shapes::{
    TEXT_HEADS, TEXT_TOKENS, TEXT_WIDTH, UNET, UNET_HEADS, decoder_rows, texts, unet_level, unet_rows,
};

const OP: &str = "attention";

pub fn cases(size: Size) -> Vec<Case> {
    in_both_types(every::<f16>(size), every::<bf16>(size))
}

fn every<T: Half + Number>(size: Size) -> Vec<Case> {
    let mut all = Vec::new();
    let n = unet_rows(size);
    // Heads stay as wide as in the model, which has fewer of them on the simulated driver.
    let heads = size.pick(UNET_HEADS, 2);
    let levels = UNET.map(|(side, c)| (unet_level(size, side, c).0.pow(2), c / UNET_HEADS));
    for (tokens, head_dim) in levels {
        all.push(itself::<T>("self", Shape { n, queries: tokens, keys: tokens, heads, head_dim, causal: false }));
    }
    for (queries, head_dim) in levels {
        all.push(text::<T>(Shape { n, queries, keys: TEXT_TOKENS, heads, head_dim, causal: false }));
    }
    let tokens = size.pick(4096, 64);
    let decoder =
        Shape { n: decoder_rows(size), queries: tokens, keys: tokens, heads: 1, head_dim: 512, causal: false };
    all.push(itself::<T>("self, decoder", decoder));
    let (heads, head_dim) = (size.pick(TEXT_HEADS, 2), TEXT_WIDTH / TEXT_HEADS);
    let (queries, keys) = (TEXT_TOKENS, TEXT_TOKENS);
    all.push(itself::<T>("causal", Shape { n: texts(size), queries, keys, heads, head_dim, causal: true }));
    all
}

fn work(shape: Shape) -> Work {
    // Half of the scores where later keys are hidden.
    let share = if shape.causal { (shape.queries + 1) as f64 / (2 * shape.queries) as f64 } else { 1.0 };
    let exps = share * (shape.n * shape.heads * shape.queries * shape.keys) as f64;
    Work { flops: share * shape.flops(), bytes: shape.bytes(2), exps }
}

fn name<T: Half>(kernel: &str, shape: Shape) -> (&'static str, String, String) {
    let Shape { n, queries, keys, heads, head_dim, .. } = shape;
    (OP, stored::<T>(kernel), format!("[{n}, {queries}→{keys}, {heads}×{head_dim}]"))
}

fn itself<T: Half + Number>(kernel: &str, shape: Shape) -> Case {
    let width = shape.heads * shape.head_dim;
    let tokens = shape.n * shape.queries;
    Case::new(name::<T>(kernel, shape), work(shape), move |inputs| {
        let (qkv, y) = (inputs.normal::<T>(3 * tokens * width)?, inputs.room::<T>(tokens * width)?);
        Ok(move |gpu: &_| {
            let [q, k, v] = [0, 1, 2].map(|part| Heads::part(qkv.view(), part, 3, width));
            forward(gpu, y.view(), q, k, v, shape)
        })
    })
}

fn text<T: Half + Number>(shape: Shape) -> Case {
    let width = shape.heads * shape.head_dim;
    let tokens = shape.n * shape.queries;
    // Every caption has its context, all unconditional rows share one.
    let contexts = shape.n / 2 + 1;
    let work = Work { bytes: (4 * tokens * width + 4 * contexts * shape.keys * width) as f64, ..work(shape) };
    Case::new(name::<T>("cross", shape), work, move |inputs| {
        let (q, y) = (inputs.normal::<T>(tokens * width)?, inputs.room::<T>(tokens * width)?);
        let kv = inputs.normal::<T>(contexts * shape.keys * 2 * width)?;
        let rows: Vec<u32> = (0..shape.n).map(|n| n.min(contexts - 1) as u32).collect();
        let which = inputs.upload(&rows)?;
        Ok(move |gpu: &_| {
            let q = Heads::part(q.view(), 0, 1, width);
            cross(gpu, y.view(), q, shape.n, kv.view(), which.view(), shape)
        })
    })
}
