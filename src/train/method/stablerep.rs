//! StableRep (arXiv 2306.00984): m images of each caption, one crop each; positives share the caption's text.

use super::Views;

pub fn views(images_per_caption: usize) -> Views {
    Views { images: images_per_caption, crops: 1 }
}

/// Caption identities are the labels: a caption that comes twice in a batch is its own positive, not a false negative.
pub fn label(_labels: &mut [u32]) {}
