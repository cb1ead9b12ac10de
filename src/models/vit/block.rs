//! One pre-norm transformer block: `x += proj(attention(norm1(x)))`, `x += fc2(gelu(fc1(norm2(x))))`.

use super::acts::Back;
use super::{EPS, VitConfig};
use crate::device::Plan;
use crate::ops::{layernorm, linear, self_attention};
use crate::weights::{Param, pair_mut};

/// Sizes of one block: `n` images of `tokens`, of which the first `queries` leave the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockShape {
    pub n: usize,
    pub tokens: usize,
    pub queries: usize,
    pub width: usize,
    pub heads: usize,
    pub hidden: usize,
}

impl BlockShape {
    /// Rows that enter and rows that leave.
    pub fn rows(self) -> (usize, usize) {
        (self.n * self.tokens, self.n * self.queries)
    }

    pub fn attention(self) -> self_attention::Shape {
        let Self { n, tokens, queries, heads, .. } = self;
        self_attention::Shape { n, tokens, queries, heads, head_dim: self.width / heads, causal: false }
    }

    /// Row i of what leaves the attention continues row i of the stream, or its image's first row when only class tokens ask.
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

/// The places of a block's tensors.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) norm1: [Param; 2],
    pub(super) qkv: [Param; 2],
    pub(super) proj: [Param; 2],
    pub(super) norm2: [Param; 2],
    pub(super) fc1: [Param; 2],
    pub(super) fc2: [Param; 2],
}

impl Block {
    pub fn new(config: &VitConfig, add: &mut dyn FnMut(&str, &[usize]) -> Param) -> Self {
        let (d, hidden) = (config.width, config.hidden());
        let mut pair = |name: &str, shape: &[usize]| {
            [add(&format!("{name}.weight"), shape), add(&format!("{name}.bias"), &shape[..1])]
        };
        Self {
            norm1: pair("norm1", &[d]),
            qkv: pair("attn.qkv", &[3 * d, d]),
            proj: pair("attn.proj", &[d, d]),
            norm2: pair("norm2", &[d]),
            fc1: pair("mlp.fc1", &[hidden, d]),
            fc2: pair("mlp.fc2", &[d, hidden]),
        }
    }

    /// `y [N, queries, D]` from `x [N, T, D]`.
    pub fn forward(&self, params: &[f32], y: &mut [f32], x: &[f32], acts: &mut BlockActs, shape: BlockShape) {
        let at = |[w, b]: [Param; 2]| (w.of(params), b.of(params));
        let [qkv, proj, fc1, fc2] = shape.linears();
        let (w, b) = at(self.norm1);
        layernorm::forward(&mut acts.norm1, &mut acts.stats1, x, w, b, EPS);
        let (w, b) = at(self.qkv);
        linear::forward(&mut acts.qkv, &acts.norm1, w, b, qkv);
        self_attention::forward(&mut acts.attention, &mut acts.lse, &acts.qkv, shape.attention());
        let (w, b) = at(self.proj);
        linear::forward_residual(&mut acts.middle, (x, shape.residual_stride()), &acts.attention, w, b, proj);
        let (w, b) = at(self.norm2);
        layernorm::forward(&mut acts.norm2, &mut acts.stats2, &acts.middle, w, b, EPS);
        let (w, b) = at(self.fc1);
        linear::forward_gelu(&mut acts.gelu, &mut acts.hidden, &acts.norm2, w, b, fc1);
        let (w, b) = at(self.fc2);
        linear::forward_residual(y, (&acts.middle, shape.width), &acts.gelu, w, b, fc2);
    }

    /// Turns the gradient of the output (`back.dx`, or `back.dlast` where only class tokens leave) into that of the input (`back.dx`).
    pub fn backward(
        &self,
        params: &[f32],
        grads: &mut [f32],
        back: &mut Back,
        x: &[f32],
        acts: &BlockActs,
        shape: BlockShape,
    ) {
        let [qkv, proj, fc1, fc2] = shape.linears();
        let (_, out) = shape.rows();
        let Back { dx, dlast, dnorm, datt, dqkv, dhidden } = back;
        let only_class = shape.queries < shape.tokens;
        let dy: &mut [f32] = if only_class { dlast } else { dx };
        let (dhidden, datt) = (&mut dhidden[..out * shape.hidden], &mut datt[..out * shape.width]);
        let mut gradient = |[w, b]: [Param; 2], dy: &[f32], x: &[f32], shape| {
            let (dw, db) = pair_mut(grads, w, b);
            linear::backward_weight(dw, db, dy, x, shape);
        };

        gradient(self.fc2, dy, &acts.gelu, fc2);
        linear::backward_input_gelu(dhidden, dy, self.fc2[0].of(params), &acts.hidden, fc2);
        gradient(self.fc1, dhidden, &acts.norm2, fc1);
        let dnorm2 = &mut dnorm[..out * shape.width];
        linear::backward_input(dnorm2, dhidden, self.fc1[0].of(params), fc1);
        let (dgamma, dbeta) = pair_mut(grads, self.norm2[0], self.norm2[1]);
        layernorm::backward(dy, dgamma, dbeta, dnorm2, &acts.middle, &acts.stats2, self.norm2[0].of(params));

        let mut gradient = |[w, b]: [Param; 2], dy: &[f32], x: &[f32], shape| {
            let (dw, db) = pair_mut(grads, w, b);
            linear::backward_weight(dw, db, dy, x, shape);
        };
        gradient(self.proj, dy, &acts.attention, proj);
        linear::backward_input(datt, dy, self.proj[0].of(params), proj);
        self_attention::backward(dqkv, datt, &acts.qkv, &acts.attention, &acts.lse, shape.attention());
        gradient(self.qkv, dqkv, &acts.norm1, qkv);
        linear::backward_input(dnorm, dqkv, self.qkv[0].of(params), qkv);
        if only_class {
            dx.fill(0.0);
            for (image, class) in dx.chunks_exact_mut(shape.tokens * shape.width).zip(dlast.chunks_exact(shape.width)) {
                image[..shape.width].copy_from_slice(class);
            }
        }
        let (dgamma, dbeta) = pair_mut(grads, self.norm1[0], self.norm1[1]);
        layernorm::backward(dx, dgamma, dbeta, dnorm, x, &acts.stats1, self.norm1[0].of(params));
    }
}

/// Activations of one block.
#[derive(Debug)]
pub(super) struct BlockActs {
    norm1: Vec<f32>,
    stats1: Vec<f32>,
    qkv: Vec<f32>,
    lse: Vec<f32>,
    attention: Vec<f32>,
    middle: Vec<f32>,
    norm2: Vec<f32>,
    stats2: Vec<f32>,
    hidden: Vec<f32>,
    gelu: Vec<f32>,
}

impl BlockActs {
    pub fn new(plan: &mut Plan, group: &'static str, name: &str, shape: BlockShape) -> Self {
        let ((all, out), d) = (shape.rows(), shape.width);
        let mut take = |what: &str, len: usize| plan.f32(group, format!("{name}.{what}"), len);
        Self {
            norm1: take("norm1", all * d),
            stats1: take("norm1.stats", all * 2),
            qkv: take("attn.qkv", all * 3 * d),
            lse: take("attn.lse", shape.attention().lse_len()),
            attention: take("attn", out * d),
            middle: take("attn.proj", out * d),
            norm2: take("norm2", out * d),
            stats2: take("norm2.stats", out * 2),
            hidden: take("mlp.fc1", out * shape.hidden),
            gelu: take("mlp.act", out * shape.hidden),
        }
    }

    /// Cuts the buffers to a smaller batch.
    pub fn truncate(&mut self, shape: BlockShape) {
        let ((all, out), d) = (shape.rows(), shape.width);
        self.norm1.truncate(all * d);
        self.stats1.truncate(all * 2);
        self.qkv.truncate(all * 3 * d);
        self.lse.truncate(shape.attention().lse_len());
        self.attention.truncate(out * d);
        self.middle.truncate(out * d);
        self.norm2.truncate(out * d);
        self.stats2.truncate(out * 2);
        self.hidden.truncate(out * shape.hidden);
        self.gelu.truncate(out * shape.hidden);
    }

    /// By timm's module names, in the order they are computed.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        [
            ("norm1", &self.norm1),
            ("attn.qkv", &self.qkv),
            ("attn.softmax", &self.attention),
            ("attn.proj", &self.middle),
            ("norm2", &self.norm2),
            ("mlp.fc1", &self.hidden),
            ("mlp.act", &self.gelu),
        ]
        .into_iter()
        .map(|(name, values)| (name, values.as_slice()))
    }
}
