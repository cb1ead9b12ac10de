//! SLIP (Mu et al. 2022, arXiv 2112.12750): CLIP on a weak crop of each image, and SimCLR on two strong ones.

use super::contrastive;
use super::image_text::{self, ImageText, Roles};
use super::network::{Method, Network, Sizes, Views};
use crate::error::Result;

pub(super) struct Slip;

impl Method for Slip {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 3 }
    }

    fn reads_texts(&self) -> bool {
        true
    }

    fn label(&self, _: &mut [u32], _: usize) {}

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        let roles = Roles { texts: 0..1, views: Some(1..3), by_picture: true };
        Ok(Box::new(ImageText::new(sizes, sizes.language()?, &roles)?))
    }

    fn expectation(&self, captions: usize, _: Views, _: f64) -> String {
        let of_views = contrastive::expectation(captions, Views { images: 1, crops: 2 });
        format!(
            "the loss is a sum: that of images and texts {}; of strong crops, {of_views}",
            image_text::expectation(captions)
        )
    }
}
