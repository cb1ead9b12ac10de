//! One pre-norm transformer block: `x += proj(attention(norm1(x)))`, `x += fc2(gelu(fc1(norm2(x))))`; queries and keys
//! may have norms of their own.

use super::acts::BlockActs;
use super::config::VitConfig;
use super::gradients::VitGradients;
use super::shape::BlockShape;
use super::style::Style;
use crate::error::Result;
use crate::layers::training::{Branch, Buffer, Dropped, LayerNorm, Layers, Linear, QkNorm};
use crate::ops::linear::Shape;
use crate::weights::Param;

/// timm's names of the norms of queries and of keys.
const QK_NORMS: [&str; 2] = ["attn.q_norm", "attn.k_norm"];

/// The places of a block's tensors.
#[derive(Clone, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    qk_norm: Option<QkNorm>,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    quick_gelu: bool,
}

impl Block {
    pub fn new(config: &VitConfig, style: &Style, add: &mut dyn FnMut(&str, &[usize]) -> Param) -> Self {
        let (d, hidden) = (config.width, config.hidden());
        let mut pair = |[weight, bias]: [String; 2], shape: &[usize]| [add(&weight, shape), add(&bias, &shape[..1])];
        let of = |name: &str| ["weight", "bias"].map(|what| format!("{name}.{what}"));
        Self {
            norm1: LayerNorm { affine: pair(of(style.norm1), &[d]), eps: style.eps },
            qkv: pair(style.qkv.map(str::to_owned), &[3 * d, d]).into(),
            qk_norm: config.qk_norm.then(|| {
                let [[first, ..], _] = QK_NORMS.map(|name| pair(of(name), &[d / config.heads]));
                // The four lie side by side.
                QkNorm { affine: Param { len: 4 * first.len, ..first }, eps: style.eps }
            }),
            proj: pair(of(style.proj), &[d, d]).into(),
            norm2: LayerNorm { affine: pair(of(style.norm2), &[d]), eps: style.eps },
            fc1: pair(of(style.fc1), &[hidden, d]).into(),
            fc2: pair(of(style.fc2), &[d, hidden]).into(),
            quick_gelu: style.quick_gelu,
        }
    }

    /// `y [N, queries, D]` from `x [N, T, D]`; some images may leave out attention or MLP.
    pub fn forward(
        &self,
        on: &mut dyn Layers,
        y: Buffer,
        x: Buffer,
        (acts, dropped): (&BlockActs, Option<[Dropped; 2]>),
        shape: BlockShape,
    ) -> Result<()> {
        let [qkv, proj, fc1, fc2] = shape.linears();
        on.layer_norm(acts.norm1, acts.stats1, x, self.norm1)?;
        on.linear(acts.qkv, acts.norm1, self.qkv, qkv)?;
        if let Some(norm) = self.qk_norm {
            on.qk_norm(acts.heads, acts.qk_stats, acts.qkv, norm, shape.attention())?;
        }
        on.attention(acts.attention, acts.lse, acts.heads, shape.attention())?;
        let residual = (x, shape.residual_stride());
        add_branch(on, acts.middle, residual, acts.attention, (self.proj, proj), dropped.map(|both| both[0]))?;
        on.layer_norm(acts.norm2, acts.stats2, acts.middle, self.norm2)?;
        if self.quick_gelu {
            on.linear(acts.hidden, acts.norm2, self.fc1, fc1)?;
            on.quick_gelu(acts.gelu, acts.hidden)?;
        } else {
            on.linear_gelu(acts.gelu, acts.hidden, acts.norm2, self.fc1, fc1)?;
        }
        add_branch(on, y, (acts.middle, shape.width), acts.gelu, (self.fc2, fc2), dropped.map(|both| both[1]))
    }

    /// Turns the gradient of the output (`back.dx`, or `back.dlast` where only class tokens leave) into that of the
    /// input (`back.dx`).
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        back: &VitGradients,
        x: Buffer,
        (acts, dropped): (&BlockActs, Option<[Dropped; 2]>),
        shape: BlockShape,
    ) -> Result<()> {
        let [qkv, proj, fc1, fc2] = shape.linears();
        let (_, out) = shape.rows();
        let VitGradients { dx, dlast, dnorm, dqkv, .. } = *back;
        let only_class = shape.queries < shape.tokens;
        let dy = if only_class { dlast } else { dx };
        let (dhidden, datt) = (back.dhidden.first(out * shape.hidden), back.datt.first(out * shape.width));

        if acts.again {
            match self.quick_gelu {
                true => on.quick_gelu(acts.gelu, acts.hidden)?,
                false => on.gelu(acts.gelu, acts.hidden)?,
            }
        }
        // Of what a branch made; nothing else is in that room yet.
        let room = dnorm.first(out * shape.width);
        let dbranch = branch_gradient(on, room, dy, dropped.map(|both| both[1]))?;
        on.weight_gradient(dbranch, acts.gelu, self.fc2, fc2)?;
        if self.quick_gelu {
            on.input_gradient(dhidden, dbranch, self.fc2.w, fc2)?;
            on.quick_gelu_backward(dhidden, acts.hidden)?;
        } else {
            on.input_gradient_gelu(dhidden, dbranch, acts.hidden, self.fc2.w, fc2)?;
        }
        if acts.again {
            on.layer_norm(acts.norm2, acts.stats2, acts.middle, self.norm2)?;
        }
        on.weight_gradient(dhidden, acts.norm2, self.fc1, fc1)?;
        on.input_gradient(room, dhidden, self.fc1.w, fc1)?;
        on.layer_norm_backward(dy, Branch::Kept, room, (acts.middle, acts.stats2), self.norm2)?;

        let dbranch = branch_gradient(on, room, dy, dropped.map(|both| both[0]))?;
        on.weight_gradient(dbranch, acts.attention, self.proj, proj)?;
        on.input_gradient(datt, dbranch, self.proj.w, proj)?;
        if let (Some(norm), true) = (self.qk_norm, acts.again) {
            on.qk_norm(acts.heads, acts.qk_stats, acts.qkv, norm, shape.attention())?;
        }
        on.attention_backward(dqkv, datt, acts.heads, (acts.attention, acts.lse), shape.attention())?;
        if let Some(norm) = self.qk_norm {
            on.qk_norm_backward(dqkv, (acts.qkv, acts.qk_stats), norm, shape.attention())?;
        }
        if acts.again {
            on.layer_norm(acts.norm1, acts.stats1, x, self.norm1)?;
        }
        on.weight_gradient(dqkv, acts.norm1, self.qkv, qkv)?;
        on.input_gradient(dnorm, dqkv, self.qkv.w, qkv)?;
        let branch = if only_class { Branch::OneIn(shape.tokens, dlast) } else { Branch::Kept };
        on.layer_norm_backward(dx, branch, dnorm, (x, acts.stats1), self.norm1)
    }
}

/// `y = residual + x·Wᵀ + b`, where images keep that branch.
fn add_branch(
    on: &mut dyn Layers,
    y: Buffer,
    residual: (Buffer, usize),
    x: Buffer,
    (at, shape): (Linear, Shape),
    dropped: Option<Dropped>,
) -> Result<()> {
    let Some(dropped) = dropped else { return on.linear_residual(y, residual, x, at, shape) };
    on.linear(y, x, at, shape)?;
    on.drop_path(y, residual, dropped)
}

/// The gradient of what a branch made, given that of the stream it went to: in `room` where some images left it out.
fn branch_gradient(on: &mut dyn Layers, room: Buffer, dy: Buffer, dropped: Option<Dropped>) -> Result<Buffer> {
    let Some(dropped) = dropped else { return Ok(dy) };
    on.drop_path_backward(room, dy, dropped)?;
    Ok(room)
}
