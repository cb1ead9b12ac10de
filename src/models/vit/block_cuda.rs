//! A transformer block on CUDA: the CPU block's steps over bf16 activations.

use half::bf16;

use super::EPS;
use super::block::{Block, BlockShape};
use crate::device::cuda::{Arena, Gpu, View};
use crate::error::Result;
use crate::ops::layernorm::cuda::{self as layernorm, Branch};
use crate::ops::linear::{self, cuda as fully_connected};
use crate::ops::self_attention::cuda as self_attention;
use crate::weights::{DeviceParams, Param};

/// Gradients on their way back, shared by all blocks; see the CPU's [`super::acts::Back`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Back {
    pub dx: View<bf16>,
    pub dlast: View<bf16>,
    pub dnorm: View<bf16>,
    pub datt: View<bf16>,
    pub dqkv: View<bf16>,
    pub dhidden: View<bf16>,
    /// Partial sums of whichever op runs.
    pub scratch: View<f32>,
}

/// Activations of one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockActs {
    norm1: View<bf16>,
    stats1: View<f32>,
    qkv: View<bf16>,
    lse: View<f32>,
    attention: View<bf16>,
    middle: View<bf16>,
    norm2: View<bf16>,
    stats2: View<f32>,
    hidden: View<bf16>,
    gelu: View<bf16>,
}

impl BlockActs {
    pub fn new(arena: &mut Arena, group: &'static str, name: &str, shape: BlockShape) -> Self {
        let ((all, out), d) = (shape.rows(), shape.width);
        let mut half = |what: &str, len: usize| arena.take(group, format!("{name}.{what}"), len);
        let (norm1, qkv, attention) = (half("norm1", all * d), half("attn.qkv", all * 3 * d), half("attn", out * d));
        let (middle, norm2) = (half("attn.proj", out * d), half("norm2", out * d));
        let (hidden, gelu) = (half("mlp.fc1", out * shape.hidden), half("mlp.act", out * shape.hidden));
        let mut full = |what: &str, len: usize| arena.take(group, format!("{name}.{what}"), len);
        let stats1 = full("norm1.stats", all * 2);
        let lse = full("attn.lse", shape.attention().lse_len());
        let stats2 = full("norm2.stats", out * 2);
        Self { norm1, stats1, qkv, lse, attention, middle, norm2, stats2, hidden, gelu }
    }

    /// By timm's module names, in the order they are computed.
    pub fn named(&self) -> [(&'static str, View<bf16>); 7] {
        [
            ("norm1", self.norm1),
            ("attn.qkv", self.qkv),
            ("attn.softmax", self.attention),
            ("attn.proj", self.middle),
            ("norm2", self.norm2),
            ("mlp.fc1", self.hidden),
            ("mlp.act", self.gelu),
        ]
    }
}

impl BlockShape {
    fn norms(self) -> [layernorm::Shape; 2] {
        let (all, out) = self.rows();
        [all, out].map(|rows| layernorm::Shape::dense(rows, self.width))
    }

    /// f32 values of scratch that the backward needs.
    pub(super) fn scratch_len(self) -> usize {
        let linears = self.linears().map(fully_connected::backward_weight_scratch_len);
        let norms = self.norms().map(layernorm::scratch_len);
        let attention = self_attention::scratch_len(self.attention());
        linears.into_iter().chain(norms).chain([attention]).max().unwrap_or(0)
    }
}

/// What every step of a pass takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass<'a> {
    pub gpu: &'a Gpu,
    pub params: &'a DeviceParams,
}

impl Pass<'_> {
    fn weight_gradient(
        self,
        [w, b]: [Param; 2],
        dy: View<bf16>,
        x: View<bf16>,
        scratch: View<f32>,
        shape: linear::Shape,
    ) -> Result<()> {
        let (dw, db) = (self.params.grad(w), self.params.grad(b));
        fully_connected::backward_weight(self.gpu, dw, db, dy, x, scratch, shape)
    }

    /// `dx` becomes `branch` plus the gradient through the norm of `x`.
    pub(super) fn norm_backward(
        self,
        [gamma, beta]: [Param; 2],
        (dx, branch): (View<bf16>, Branch),
        dy: View<bf16>,
        (x, stats): (View<bf16>, View<f32>),
        scratch: View<f32>,
        shape: layernorm::Shape,
    ) -> Result<()> {
        let Self { gpu, params } = self;
        let (dgamma, dbeta, gamma) = (params.grad(gamma), params.grad(beta), params.f32(gamma));
        layernorm::backward(gpu, dx, branch, dgamma, dbeta, dy, x, stats, gamma, scratch, shape)
    }
}

impl Block {
    /// `y [N, queries, D]` from `x [N, T, D]`.
    pub(super) fn forward_cuda(
        &self,
        pass: Pass,
        y: View<bf16>,
        x: View<bf16>,
        acts: &BlockActs,
        shape: BlockShape,
    ) -> Result<()> {
        let Pass { gpu, params } = pass;
        let at = |[w, b]: [Param; 2]| (params.bf16(w), params.bf16(b));
        let [qkv, proj, fc1, fc2] = shape.linears();
        let [before, after] = shape.norms();
        let [w, b] = self.norm1.map(|p| params.f32(p));
        layernorm::forward(gpu, acts.norm1, acts.stats1, x, w, b, EPS, before)?;
        let (w, b) = at(self.qkv);
        fully_connected::forward(gpu, acts.qkv, acts.norm1, w, b, qkv)?;
        self_attention::forward(gpu, acts.attention, acts.lse, acts.qkv, shape.attention())?;
        let (w, b) = at(self.proj);
        fully_connected::forward_residual(gpu, acts.middle, (x, shape.residual_stride()), acts.attention, w, b, proj)?;
        let [w, b] = self.norm2.map(|p| params.f32(p));
        layernorm::forward(gpu, acts.norm2, acts.stats2, acts.middle, w, b, EPS, after)?;
        let (w, b) = at(self.fc1);
        fully_connected::forward_gelu(gpu, acts.gelu, acts.hidden, acts.norm2, w, b, fc1)?;
        let (w, b) = at(self.fc2);
        fully_connected::forward_residual(gpu, y, (acts.middle, shape.width), acts.gelu, w, b, fc2)
    }

    /// Turns the gradient of the output (`back.dx`, or `back.dlast` where only class tokens leave) into that of the input (`back.dx`).
    pub(super) fn backward_cuda(
        &self,
        pass: Pass,
        back: &Back,
        x: View<bf16>,
        acts: &BlockActs,
        shape: BlockShape,
    ) -> Result<()> {
        let Pass { gpu, params } = pass;
        let [qkv, proj, fc1, fc2] = shape.linears();
        let [before, after] = shape.norms();
        let (_, out) = shape.rows();
        let Back { dx, dlast, dnorm, datt, dqkv, dhidden, scratch } = *back;
        let only_class = shape.queries < shape.tokens;
        let dy = if only_class { dlast } else { dx };
        let (dhidden, datt) = (dhidden.slice(0..out * shape.hidden), datt.slice(0..out * shape.width));

        pass.weight_gradient(self.fc2, dy, acts.gelu, scratch, fc2)?;
        fully_connected::backward_input_gelu(gpu, dhidden, dy, params.bf16(self.fc2[0]), acts.hidden, fc2)?;
        pass.weight_gradient(self.fc1, dhidden, acts.norm2, scratch, fc1)?;
        let dnorm2 = dnorm.slice(0..out * shape.width);
        fully_connected::backward_input(gpu, dnorm2, dhidden, params.bf16(self.fc1[0]), fc1)?;
        let middle = (acts.middle, acts.stats2);
        pass.norm_backward(self.norm2, (dy, Branch::Every(dy)), dnorm2, middle, scratch, after)?;

        pass.weight_gradient(self.proj, dy, acts.attention, scratch, proj)?;
        fully_connected::backward_input(gpu, datt, dy, params.bf16(self.proj[0]), proj)?;
        let attention = shape.attention();
        self_attention::backward(gpu, dqkv, datt, acts.qkv, acts.attention, acts.lse, scratch, attention)?;
        pass.weight_gradient(self.qkv, dqkv, acts.norm1, scratch, qkv)?;
        fully_connected::backward_input(gpu, dnorm, dqkv, params.bf16(self.qkv[0]), qkv)?;
        let branch = if only_class { Branch::OneIn(shape.tokens, dlast) } else { Branch::Every(dx) };
        pass.norm_backward(self.norm1, (dx, branch), dnorm, (x, acts.stats1), scratch, before)
    }
}
