//! StableRep+ (arXiv 2306.00984): StableRep's loss, and that of images against texts over the same views: each image
//! finds its caption's text, each text all images of it.

use super::contrastive;
use super::image_text::{self, ImageText, Roles};
use super::network::{Method, Network, Sizes, Views};
use crate::error::Result;

pub(super) struct StableRepPlus;

impl Method for StableRepPlus {
    fn views(&self, images_per_caption: usize) -> Views {
        Views { images: images_per_caption, crops: 1 }
    }

    fn takes_crops(&self) -> bool {
        true
    }

    fn reads_texts(&self) -> bool {
        true
    }

    fn label(&self, _: &mut [u32], _: usize) {}

    fn network(&self, sizes: &Sizes) -> Result<Box<dyn Network>> {
        let slots = 0..sizes.images / sizes.captions;
        let roles = Roles { texts: slots.clone(), views: Some(slots), by_picture: false };
        Ok(Box::new(ImageText::new(sizes, sizes.language()?, &roles)?))
    }

    fn expectation(&self, captions: usize, views: Views, _: f64) -> String {
        let (of_texts, of_views) = (image_text::expectation(captions), contrastive::expectation(captions, views));
        format!("the loss is a sum: that of images and texts {of_texts}; of images alone, {of_views}")
    }
}
