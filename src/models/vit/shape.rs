//! Sizes of a block's tensors.

use crate::ops::{linear, self_attention};

/// What goes through the blocks of a transformer: `n` images of `tokens`, of which the first `leaving` leave the last
/// block: 1 (the class token) or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub n: usize,
    pub tokens: usize,
    pub leaving: usize,
}

/// Sizes of one block: `n` images of `tokens`, of which the first `queries` leave the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockShape {
    pub n: usize,
    pub tokens: usize,
    pub queries: usize,
    pub width: usize,
    pub heads: usize,
    pub hidden: usize,
    /// Whether a token sees none behind it.
    pub causal: bool,
    /// Whether queries and keys are normalised.
    pub qk_norm: bool,
}

impl BlockShape {
    /// Rows that enter and rows that leave.
    pub fn rows(self) -> (usize, usize) {
        (self.n * self.tokens, self.n * self.queries)
    }

    pub fn attention(self) -> self_attention::Shape {
        let Self { n, tokens, queries, heads, causal, .. } = self;
        self_attention::Shape { n, tokens, queries, heads, head_dim: self.width / heads, causal }
    }

    /// Row i of what leaves the attention continues row i of the stream, or its image's first row when only class
    /// tokens ask.
    pub fn residual_stride(self) -> usize {
        self.tokens / self.queries * self.width
    }

    /// qkv, proj, fc1, fc2.
    pub fn linears(self) -> [linear::Shape; 4] {
        let ((all, out), d) = (self.rows(), self.width);
        [(all, d, 3 * d), (out, d, d), (out, d, self.hidden), (out, self.hidden, d)]
            .map(|(rows, inputs, outputs)| linear::Shape { rows, inputs, outputs })
    }
}
