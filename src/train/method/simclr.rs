//! SimCLR (arXiv 2002.05709): one image of each caption, two crops; only the two crops are positives.

use super::Views;

pub fn views() -> Views {
    Views { images: 1, crops: 2 }
}

/// Row i of every view slot is crop of the same image.
pub fn label(labels: &mut [u32], captions: usize) {
    labels.iter_mut().enumerate().for_each(|(row, label)| *label = (row % captions) as u32);
}
