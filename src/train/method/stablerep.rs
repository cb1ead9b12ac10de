//! StableRep (arXiv 2306.00984): m images of each caption, one crop each; positives share the caption's text.

use super::contrastive::{Alike, Contrastive, expectation};
use super::network::{Method, Network, Sizes, Views};
use crate::error::Result;

pub(super) struct StableRep;

impl Method for StableRep {
    fn views(&self, images_per_caption: usize) -> Views {
        Views { images: images_per_caption, crops: 1 }
    }

    fn takes_crops(&self) -> bool {
        true
    }

    /// Caption identities are the labels: a caption that comes twice in a batch is its own positive, not a false
    /// negative.
    fn label(&self, _: &mut [u32], _: usize) {}

    fn expectation(&self, captions: usize, views: Views, _: f64) -> String {
        expectation(captions, views)
    }

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(Contrastive::new(sizes, Alike::Label)?))
    }
}
