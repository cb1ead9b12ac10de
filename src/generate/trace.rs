//! What measuring wants to know of a pipeline: where a batch's time went on the device, what was queued, what the model asks for.

use super::pipeline::{Parts, Pipeline};
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
    /// Latents, pictures and flags to the host.
    pub received: f64,
}

/// FLOPs (two per multiply-accumulate) of drawing one image of a caption of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flops {
    /// The caption's encoding, with its keys and values.
    pub text: f64,
    /// One call of the UNet, of every guidance branch.
    pub call: f64,
    /// What of `call` need not be computed, because the branches are one up to the first cross-attention.
    pub saved: f64,
    pub decoder: f64,
    /// Calls of the UNet.
    pub calls: usize,
}

impl Flops {
    pub(super) fn of(parts: &Parts<'_>) -> Result<Self> {
        let text = &parts.text.0;
        let unet = parts.unet.0.flops(parts.latent, text.tokens)?;
        let branches = if parts.unconditional.is_some() { 2.0 } else { 1.0 };
        Ok(Self {
            text: text.flops()? + unet.context,
            call: branches * unet.call,
            saved: (branches - 1.0) * unet.shared,
            decoder: parts.decoder.0.flops(parts.latent)?,
            calls: parts.sampler.rows().len(),
        })
    }

    /// Of an image: what MFU is measured by.
    pub fn image(self) -> f64 {
        self.text + self.calls as f64 * self.call + self.decoder
    }

    /// Of an image, without what is computed once for both branches.
    pub fn computed(self) -> f64 {
        self.image() - self.calls as f64 * self.saved
    }
}

impl Pipeline {
    /// From now on, [`super::Drawn::trace`] says where a batch's time went; on the CPU it never does.
    pub fn trace(&mut self, on: bool) {
        self.painter.trace(on);
    }

    /// Bytes of device memory that weights and batches were given; 0 on the CPU, whose memory the plan of [`Pipeline::open`] counts.
    pub fn device_bytes(&self) -> u64 {
        self.painter.device_bytes()
    }

    /// What was queued so far, on a device that has a queue.
    pub fn queued(&self) -> Queued {
        self.painter.queued()
    }

    /// What an image asks for.
    pub fn flops(&self) -> Flops {
        self.flops
    }
}
