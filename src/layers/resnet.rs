//! The residual block of UNet and autoencoder.

use super::{Backend, Layers, Load, Resolution, Slot, Tensor};
use crate::error::Result;

/// `y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`.
#[derive(Debug)]
pub struct ResNet<B: Backend> {
    norm1: B::GroupNorm,
    conv1: B::Conv,
    norm2: B::GroupNorm,
    conv2: B::Closing,
    outputs: usize,
}

impl<B: Backend> ResNet<B> {
    /// Reads the block `name`, whose input is tensors of `parts` channels side by side.
    pub fn load(
        from: &mut impl Load<B>,
        name: &str,
        (parts, outputs): (&[usize], usize),
        groups: usize,
        eps: f64,
    ) -> Result<Self> {
        let inputs = parts.iter().sum();
        let name = |part: &str| format!("{name}.{part}");
        Ok(Self {
            norm1: from.group_norm(&name("norm1"), inputs, groups, eps)?,
            conv1: from.conv(&name("conv1"), (inputs, outputs), Resolution::Same)?,
            norm2: from.group_norm(&name("norm2"), outputs, groups, eps)?,
            conv2: from.closing(&name("conv2"), &name("conv_shortcut"), parts, outputs)?,
            outputs,
        })
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `y` from `parts` side by side; `time` is where its first bias lies in the table of timesteps, if it has one.
    pub fn forward(&self, on: &mut impl Layers<B>, y: Tensor, parts: &[Tensor], time: Option<usize>) -> Result<()> {
        let x = on.side_by_side(parts, y.rows)?;
        let between = Tensor { slot: Slot::Between, ..y };
        on.normed_conv(between, &self.conv1, &x, &self.norm1, time)?;
        on.closing_conv(y, &self.conv2, between, &self.norm2, &x)
    }
}
