//! MoCo v3 (arXiv 2104.02057): one image of each caption, two unlike crops; a predictor tells from one crop what the
//! momentum copy says of the other, among what it says of all others.

use super::momentum::{MomentumNetwork, Objective};
use super::network::{Method, Network, Sizes, Views};
use crate::error::Result;

pub(super) struct MocoV3;

impl Method for MocoV3 {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 2 }
    }

    /// The loss reads none: a row's key is that of its own image.
    fn label(&self, _: &mut [u32], _: usize) {}

    /// On its way to 1 in half a cosine.
    fn momentum(&self) -> Option<f64> {
        Some(0.99)
    }

    fn expectation(&self, captions: usize, _: Views, temperature: f64) -> String {
        format!(
            "the loss begins near 4·{temperature}·ln({captions}) = {:.2}, where nothing is told apart, and falls towards \
             0",
            4.0 * temperature * (captions as f64).ln()
        )
    }

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(MomentumNetwork::new(sizes, Objective::Contrast)?))
    }
}
