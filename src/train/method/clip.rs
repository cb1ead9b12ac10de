//! CLIP (arXiv 2103.00020): one image of each caption, one crop; image and text of one caption find each other among
//! those of the batch. Texts that come twice are positives of all their images.

use super::image_text::{self, ImageText, Roles};
use super::network::{Method, Network, Sizes, Views};
use crate::error::Result;

pub(super) struct Clip;

impl Method for Clip {
    fn views(&self, _: usize) -> Views {
        Views { images: 1, crops: 1 }
    }

    fn reads_texts(&self) -> bool {
        true
    }

    fn label(&self, _: &mut [u32], _: usize) {}

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        let roles = Roles { texts: 0..1, views: None, by_picture: false };
        Ok(Box::new(ImageText::new(sizes, sizes.language()?, &roles)?))
    }

    fn has_head(&self) -> bool {
        false
    }

    fn has_temperature(&self) -> bool {
        false
    }

    fn expectation(&self, captions: usize, _: Views, _: f64) -> String {
        format!("the loss {}", image_text::expectation(captions))
    }
}
