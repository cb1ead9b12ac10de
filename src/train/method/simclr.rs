//! SimCLR (arXiv 2002.05709): one image of each caption, two crops; only the two crops are positives, so that the
//! multi-positive loss is NT-Xent.

use super::contrastive::{Alike, Contrastive, expectation};
use super::network::{Method, Network, Sizes, Views};
use crate::error::Result;

pub(super) struct SimClr;

impl Method for SimClr {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 2 }
    }

    fn takes_crops(&self) -> bool {
        true
    }

    /// Row i of every view slot is crop of the same image.
    fn label(&self, labels: &mut [u32], captions: usize) {
        labels.iter_mut().enumerate().for_each(|(row, label)| *label = (row % captions) as u32);
    }

    fn expectation(&self, captions: usize, views: Views, _: f64) -> String {
        expectation(captions, views)
    }

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        Ok(Box::new(Contrastive::new(sizes, Alike::Picture)?))
    }
}
