//! What draws: a batch is begun, and what was wanted of it is waited for.

use std::fmt::Debug;

use super::trace::{Meter, Trace};
use crate::error::Result;
use crate::image::Rgb8;
use crate::ops::sampler_step::NoiseKey;

/// A caption as the networks see it: token ids, and how many of them did not fit.
pub use crate::models::tokenizer::Encoding as Text;

/// Batches under way at most: one that is drawn and one that waits for its turn.
pub const AHEAD: usize = 2;

/// What a signal that comes before the first image finds.
pub(super) const NOTHING_YET: &str = "nothing was drawn yet; run the same command again";

/// What is wrong with a picture that is flagged `not_finite`.
pub const NOT_FINITE: &str = "the networks gave values that are not numbers, and the picture is black or spoiled";
/// What to do about it.
pub const WHEN_NOT_FINITE: &str = "in f16 they may be too large: --precision bf16; else a --guidance-scale nearer to 1, \
    or another model";

/// A batch to draw. Images of one caption share its encoding, and adjacent ones its products.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caption of each image.
    pub texts: Vec<Text>,
    /// What the sampler's own noise is keyed by.
    pub keys: Vec<NoiseKey>,
    /// Unit noise `[n, h, w, C]`.
    pub noise: Vec<f32>,
    /// w; one that does not guide, in a pipeline that was opened without guidance.
    pub guidance_scale: f32,
    pub wanted: Wanted,
    /// Every call whole and guided, whatever the pipeline was opened for.
    pub whole: bool,
}

/// What is wanted of a batch; the rest is not computed or stays on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub pictures: bool,
    pub latents: bool,
    /// Where its time goes, on a device that tells.
    pub trace: bool,
}

/// Pictures alone.
impl Default for Wanted {
    fn default() -> Self {
        Self { pictures: true, latents: false, trace: false }
    }
}

/// A picture out of the autoencoder.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub image: Rgb8,
    /// Whether the decoder gave a value that is no number.
    pub not_finite: bool,
    /// Whether all pixels, as drawn, are the same.
    pub constant: bool,
}

/// A batch that was drawn: what was wanted of it, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    pub pictures: Vec<Decoded>,
    /// Final latents `[n, h, w, C]`, before the division by the scaling factor.
    pub latents: Vec<f32>,
    pub trace: Option<Trace>,
}

/// What draws, batch after batch.
pub(super) trait Painter: Meter + Debug {
    /// Most images of a batch.
    fn batch(&self) -> usize;
    /// Begins a batch; the pipeline sees to it that at most [`AHEAD`] are under way. What goes wrong may be told by
    /// [`Painter::finish`].
    fn start(&mut self, request: Request) -> Result<()>;
    /// Waits for the batch begun first. `on_step` hears how many of its calls of the UNet are done.
    fn finish(&mut self, on_step: &mut dyn FnMut(usize)) -> Result<Drawn>;
}
