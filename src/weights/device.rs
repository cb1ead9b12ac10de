//! All parameters of a model on a GPU, in the layout of their [`super::ParamTable`].

use half::bf16;

use super::Param;
use crate::device::cuda::{Arena, View};

/// Parameters, their roundings and their gradients; a [`Param`] is at the same place in each.
#[derive(Clone, Copy, Debug)]
pub struct DeviceParams {
    /// What the optimizer updates.
    pub master: View<f32>,
    /// The same rounded, which matrix products read; the optimizer writes both.
    pub rounded: View<bf16>,
    pub grads: View<f32>,
}

impl DeviceParams {
    /// Buffers for `len` values.
    pub fn new(arena: &mut Arena, len: usize) -> Self {
        Self {
            master: arena.take("parameters", "parameters", len),
            rounded: arena.take("parameters", "rounded to bf16", len),
            grads: arena.take("gradients", "gradients", len),
        }
    }

    /// Buffers for `len` values that nothing is learned of: without gradients.
    pub fn frozen(arena: &mut Arena, len: usize) -> Self {
        Self {
            master: arena.take("parameters", "parameters", len),
            rounded: arena.take("parameters", "rounded to bf16", len),
            grads: arena.take("gradients", "none", 0),
        }
    }

    /// The first `len` of these parameters, for a copy of them that has no gradient of its own.
    pub fn copied(&self, arena: &mut Arena, len: usize) -> Self {
        Self {
            master: arena.take("parameters", "momentum copy", len),
            rounded: arena.take("parameters", "momentum copy, rounded to bf16", len),
            grads: self.grads.slice(0..len),
        }
    }

    /// The rounded tensor, for matrix products.
    pub fn bf16(&self, param: Param) -> View<bf16> {
        self.rounded.slice(param.range())
    }

    /// The tensor in full precision, for norms.
    pub fn f32(&self, param: Param) -> View<f32> {
        self.master.slice(param.range())
    }

    /// Its gradient.
    pub fn grad(&self, param: Param) -> View<f32> {
        self.grads.slice(param.range())
    }
}
