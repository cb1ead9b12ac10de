//! What the parts of a head share on their way forward and back.

use crate::error::Result;
use crate::layers::training::{BatchNorm, Buffer, Layers};

/// A way forward.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Room for the neighbourhoods of an image's pixels.
    pub around: Buffer,
    /// Whether batch norms go by their running statistics rather than the batch's own.
    pub infer: bool,
}

impl Pass {
    /// `y = norm(x)`.
    ///
    /// # Errors
    /// As the device's layers.
    pub fn norm(&self, on: &mut dyn Layers, y: Buffer, stats: Buffer, x: Buffer, norm: BatchNorm) -> Result<()> {
        match self.infer {
            true => on.batch_norm_infer(y, x, norm),
            false => on.batch_norm(y, stats, x, norm),
        }
    }
}

/// Scratch of a way back.
#[derive(Clone, Copy, Debug)]
pub struct Grads {
    /// Room for the neighbourhoods of an image's pixels, or their gradient.
    pub around: Buffer,
    /// As long as the largest tensor that a batch norm sees.
    pub spare: Buffer,
}
