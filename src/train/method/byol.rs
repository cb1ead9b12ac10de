//! BYOL (arXiv 2006.07733): one image of each caption, two unlike crops; a predictor tells from one crop what the
//! momentum copy says of the other. Nothing is told apart.
//!
//! No recipe for a ViT was published: network and optimizer are MoCo v3's, the loss and the momentum's start BYOL's.

use super::momentum::{MomentumNetwork, Objective};
use super::network::{Method, Network, Sizes, Views};
use crate::error::Result;

pub(super) struct Byol;

impl Method for Byol {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 2 }
    }

    /// The loss reads none.
    fn label(&self, _: &mut [u32], _: usize) {}

    /// On its way to 1 in half a cosine.
    fn momentum(&self) -> Option<f64> {
        Some(0.996)
    }

    fn has_temperature(&self) -> bool {
        false
    }

    fn expectation(&self, _: usize, _: Views, _: f64) -> String {
        "the loss lies between 0, where both views are foretold, and 8; it begins near 4, where they have nothing in \
         common, and a fall to 0 at once is a collapse"
            .into()
    }

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(MomentumNetwork::new(sizes, Objective::Cosine)?))
    }
}
