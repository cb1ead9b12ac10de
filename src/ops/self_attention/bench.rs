//! Attention of ViTs in training, bf16.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::self_attention::Shape;
use crate::ops::self_attention::cuda::{Backward, backward, forward, scratch_len};
use crate::ops::shapes::{Vit, vits};

pub fn cases(size: Size) -> Vec<Case> {
    vits(size).into_iter().flat_map(|vit| [false, true].map(|gradient| case(vit, gradient))).collect()
}

fn case(Vit { images: n, tokens, heads, .. }: Vit, gradient: bool) -> Case {
    let shape = Shape { n, tokens, queries: tokens, heads, head_dim: 64, causal: false };
    let ((forth, back), (once, both)) = (shape.flops(), shape.bytes(2));
    let exps = (n * heads * tokens * tokens) as f64;
    let (qkv_len, out_len, lse_len) = (shape.qkv_len(), shape.out_len(), shape.lse_len());
    let (kernel, work) = if gradient {
        ("backward bf16", Work { flops: back, bytes: both, exps })
    } else {
        ("forward bf16", Work { flops: forth, bytes: once, exps })
    };
    let name = ("self-attention", kernel, format!("[{n}, {tokens}, {heads}×64]"));
    Case::new(name, work, move |inputs| {
        let (qkv, out) = (inputs.normal::<bf16>(qkv_len)?, inputs.room::<bf16>(out_len)?);
        let lse = inputs.room(lse_len)?;
        forward(inputs.gpu(), out.view(), lse.view(), qkv.view(), shape)?;
        let (dqkv, dout, scratch) = if gradient {
            (inputs.room::<bf16>(qkv_len)?, inputs.normal::<bf16>(out_len)?, inputs.room(scratch_len(shape))?)
        } else {
            (inputs.room(1)?, inputs.room(1)?, inputs.room(1)?)
        };
        Ok(move |gpu: &_| {
            let (qkv, out, lse) = (qkv.view(), out.view(), lse.view());
            if gradient {
                let (dqkv, dout, scratch) = (dqkv.view(), dout.view(), scratch.view());
                backward(gpu, Backward { dqkv, dout, qkv, out, lse, scratch }, shape)
            } else {
                forward(gpu, out, lse, qkv, shape)
            }
        })
    })
}
