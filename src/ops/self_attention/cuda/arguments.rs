//! What the kernels of every family take.

use half::bf16;

use crate::device::cuda::View;
use crate::ops::self_attention::Shape;

/// What the launches of a backward pass read and write.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    /// Overwritten.
    pub dqkv: View<bf16>,
    /// The gradient of `out`.
    pub dout: View<bf16>,
    pub qkv: View<bf16>,
    /// What [`forward`](super::forward) gave.
    pub out: View<bf16>,
    pub lse: View<f32>,
    /// Of [`scratch_len`](super::scratch_len) values: row sums of out∘dout, where a kernel reads them.
    pub scratch: View<f32>,
}

/// [images, tokens, queries, heads, causal] as the kernels take them.
pub(super) fn numbers(shape: Shape) -> [u32; 5] {
    [shape.n as u32, shape.tokens as u32, shape.queries as u32, shape.heads as u32, u32::from(shape.causal)]
}

/// What scores are multiplied by.
pub(super) fn scale(shape: Shape) -> f32 {
    (shape.head_dim as f32).powf(-0.5)
}
