//! Norms of the queries and keys of ViTs in training.

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::qk_norm::cuda::{backward, forward, scratch_len};
use crate::ops::qk_norm::{Shape, bytes};
use crate::ops::shapes::vits;

const OP: &str = "qk_norm";
const EPS: f32 = 1e-6;

pub fn cases(size: Size) -> Vec<Case> {
    let shapes = vits(size).into_iter().map(|vit| Shape { tokens: vit.rows(), heads: vit.d / 64, head_dim: 64 });
    shapes.flat_map(|shape| [case(shape, false), case(shape, true)]).collect()
}

fn case(shape: Shape, gradient: bool) -> Case {
    let (kernel, (forth, back)) = (if gradient { "backward bf16" } else { "forward bf16" }, bytes(shape, 2));
    let parts = (8 * scratch_len(shape)) as f64;
    let work = Work { bytes: if gradient { back + parts } else { forth }, ..Work::default() };
    let Shape { tokens, heads, head_dim } = shape;
    Case::new((OP, kernel, format!("[{tokens}, 3, {heads}, {head_dim}]")), work, move |inputs| {
        let (x, y) = (inputs.normal::<bf16>(shape.qkv_len())?, inputs.normal::<bf16>(shape.qkv_len())?);
        let (stats, affine) = (inputs.normal(shape.stats_len())?, inputs.normal(shape.affine_len())?);
        let (sums, scratch) = (inputs.room(shape.affine_len())?, inputs.room(scratch_len(shape))?);
        Ok(move |gpu: &_| {
            let (x, y, stats, affine) = (x.view(), y.view(), stats.view(), affine.view());
            match gradient {
                true => backward(gpu, y, sums.view(), (x, stats), affine, scratch.view(), shape),
                false => forward(gpu, y, stats, x, affine, EPS, shape),
            }
        })
    })
}
