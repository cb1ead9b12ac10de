//! What measuring wants to know of a pipeline: where a batch's time went on the device, what was queued, what the model
//! asks for.

use std::collections::BTreeMap;

use crate::device::Queued;
use crate::error::Result;

/// Where the time of a batch went on the device, milliseconds of its own clock from mark to mark in its stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// From the end of the batch traced before it to its own beginning, when nothing of this pipeline was under way.
    pub idle: Option<f64>,
    /// Captions that were not there yet, to their keys and values.
    pub text: f64,
    /// Latents, noise keys and coefficients to the device, and the first input.
    pub sent: f64,
    /// Each call of the UNet with the sampler's step behind it.
    pub calls: Vec<f64>,
    /// Decoder, 8-bit pictures, their downscale.
    pub painted: f64,
    /// Pictures, flags and, if they are wanted, latents to the host.
    pub received: f64,
}

/// FLOPs (two per multiply-accumulate) of drawing one image of a caption of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flops {
    /// The caption's encoding, with its keys and values.
    pub text: f64,
    /// One whole call of the UNet, of one guidance branch.
    pub call: f64,
    /// All calls of the UNet together, every branch.
    pub unet: f64,
    /// What of that need not be computed, because the branches are one up to the first cross-attention.
    pub saved: f64,
    pub decoder: f64,
    /// Calls of the UNet.
    pub calls: usize,
    /// Those of them that have a second branch.
    pub guided: usize,
    /// Those that reuse what the call before computed deep in the network.
    pub reusing: usize,
}

impl Flops {
    /// The UNet's, of what it would be with every call whole and guided, if any is.
    pub fn share(self) -> f64 {
        let branches = if self.guided > 0 { 2.0 } else { 1.0 };
        self.unet / (self.calls as f64 * branches * self.call)
    }

    /// Of an image: what MFU is measured by.
    pub fn image(self) -> f64 {
        self.text + self.unet + self.decoder
    }

    /// Of an image, without what is computed once for both branches.
    pub fn computed(self) -> f64 {
        self.image() - self.saved
    }
}

/// What measuring asks of a device. One without a queue has no clock of its own, and its memory is in the plan of
/// [`super::Pipeline::open`].
pub(super) trait Meter {
    /// Bytes of device memory taken.
    fn device_bytes(&self) -> u64 {
        0
    }
    /// Kernels and replays so far.
    fn queued(&self) -> Queued {
        Queued::default()
    }
    /// Largest magnitudes so far of what the observed layers read.
    fn ranges(&self) -> Result<BTreeMap<String, f32>> {
        Ok(BTreeMap::new())
    }
}
