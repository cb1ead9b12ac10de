//! One pre-norm transformer block: `x += proj(attention(norm1(x)))`, `x += fc2(gelu(fc1(norm2(x))))`.

use super::acts::{BlockActs, VitGradients};
use super::config::VitConfig;
use super::shape::BlockShape;
use crate::error::Result;
use crate::layers::training::{Branch, Buffer, LayerNorm, Layers, Linear};
use crate::weights::Param;

/// Added to the variance of every layer norm.
pub(super) const LAYER_NORM_EPS: f32 = 1e-6;

/// The places of a block's tensors.
#[derive(Clone, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    pub fn new(config: &VitConfig, add: &mut dyn FnMut(&str, &[usize]) -> Param) -> Self {
        let (d, hidden) = (config.width, config.hidden());
        let mut pair = |name: &str, shape: &[usize]| {
            [add(&format!("{name}.weight"), shape), add(&format!("{name}.bias"), &shape[..1])]
        };
        Self {
            norm1: LayerNorm { affine: pair("norm1", &[d]), eps: LAYER_NORM_EPS },
            qkv: pair("attn.qkv", &[3 * d, d]).into(),
            proj: pair("attn.proj", &[d, d]).into(),
            norm2: LayerNorm { affine: pair("norm2", &[d]), eps: LAYER_NORM_EPS },
            fc1: pair("mlp.fc1", &[hidden, d]).into(),
            fc2: pair("mlp.fc2", &[d, hidden]).into(),
        }
    }

    /// `y [N, queries, D]` from `x [N, T, D]`.
    pub fn forward(
        &self,
        on: &mut dyn Layers,
        y: Buffer,
        x: Buffer,
        acts: &BlockActs,
        shape: BlockShape,
    ) -> Result<()> {
        let [qkv, proj, fc1, fc2] = shape.linears();
        on.layer_norm(acts.norm1, acts.stats1, x, self.norm1)?;
        on.linear(acts.qkv, acts.norm1, self.qkv, qkv)?;
        on.attention(acts.attention, acts.lse, acts.qkv, shape.attention())?;
        on.linear_residual(acts.middle, (x, shape.residual_stride()), acts.attention, self.proj, proj)?;
        on.layer_norm(acts.norm2, acts.stats2, acts.middle, self.norm2)?;
        on.linear_gelu(acts.gelu, acts.hidden, acts.norm2, self.fc1, fc1)?;
        on.linear_residual(y, (acts.middle, shape.width), acts.gelu, self.fc2, fc2)
    }

    /// Turns the gradient of the output (`back.dx`, or `back.dlast` where only class tokens leave) into that of the
    /// input (`back.dx`).
    pub fn backward(
        &self,
        on: &mut dyn Layers,
        back: &VitGradients,
        x: Buffer,
        acts: &BlockActs,
        shape: BlockShape,
    ) -> Result<()> {
        let [qkv, proj, fc1, fc2] = shape.linears();
        let (_, out) = shape.rows();
        let VitGradients { dx, dlast, dnorm, dqkv, .. } = *back;
        let only_class = shape.queries < shape.tokens;
        let dy = if only_class { dlast } else { dx };
        let (dhidden, datt) = (back.dhidden.first(out * shape.hidden), back.datt.first(out * shape.width));

        if acts.again {
            on.gelu(acts.gelu, acts.hidden)?;
        }
        on.weight_gradient(dy, acts.gelu, self.fc2, fc2)?;
        on.input_gradient_gelu(dhidden, dy, acts.hidden, self.fc2.w, fc2)?;
        if acts.again {
            on.layer_norm(acts.norm2, acts.stats2, acts.middle, self.norm2)?;
        }
        on.weight_gradient(dhidden, acts.norm2, self.fc1, fc1)?;
        let dnorm2 = dnorm.first(out * shape.width);
        on.input_gradient(dnorm2, dhidden, self.fc1.w, fc1)?;
        on.layer_norm_backward(dy, Branch::Kept, dnorm2, (acts.middle, acts.stats2), self.norm2)?;

        on.weight_gradient(dy, acts.attention, self.proj, proj)?;
        on.input_gradient(datt, dy, self.proj.w, proj)?;
        on.attention_backward(dqkv, datt, acts.qkv, (acts.attention, acts.lse), shape.attention())?;
        if acts.again {
            on.layer_norm(acts.norm1, acts.stats1, x, self.norm1)?;
        }
        on.weight_gradient(dqkv, acts.norm1, self.qkv, qkv)?;
        on.input_gradient(dnorm, dqkv, self.qkv.w, qkv)?;
        let branch = if only_class { Branch::OneIn(shape.tokens, dlast) } else { Branch::Kept };
        on.layer_norm_backward(dx, branch, dnorm, (x, acts.stats1), self.norm1)
    }
}
