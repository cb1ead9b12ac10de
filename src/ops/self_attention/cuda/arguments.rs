//! What the kernels of every family take.

use crate::ops::self_attention::Shape;

/// [images, tokens, queries, heads, causal] as the kernels take them.
pub(super) fn numbers(shape: Shape) -> [u32; 5] {
    [shape.n as u32, shape.tokens as u32, shape.queries as u32, shape.heads as u32, u32::from(shape.causal)]
}

/// What scores are multiplied by.
pub(super) fn scale(shape: Shape) -> f32 {
    (shape.head_dim as f32).powf(-0.5)
}
