//! A drawn batch: which image each row is made of, and how; rendered on the CPU or handed to a device.

use std::sync::Arc;

use rayon::prelude::*;

use super::super::views::Augmenter;
use super::section::Section;
use crate::error::Result;
use crate::image::{LabelMap, Rgb8};
use crate::models::text_tower::Text;
use crate::ops::augment::AugmentParams;

/// Different pictures of a batch: how many at most, and the largest width and height, in pixels, of those looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pictures {
    pub count: usize,
    pub width: usize,
    pub height: usize,
}

/// The second label of a row, and the share of the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixed {
    pub label: u32,
    pub share: f32,
}

/// One row of a batch.
#[derive(Clone, Debug)]
pub struct Row {
    pub image: Arc<Rgb8>,
    pub params: AugmentParams,
    /// Number of the caption's text.
    pub label: u32,
    /// Epoch, picture and crop: what keys its randomness.
    pub key: [u32; 3],
    /// Where two labelled pictures were mixed.
    pub mixed: Option<Mixed>,
    /// The classes of its pixels, where they are learned.
    pub map: Option<Arc<LabelMap>>,
}

/// The rows of one step, view-major: row = slot·n + caption, slot = image·crops + crop; small crops come behind the
/// others.
#[derive(Clone, Debug)]
pub struct Batch {
    pub rows: Vec<Row>,
    /// These by their size; the model's comes first.
    pub sections: Vec<Section>,
    /// The captions' texts, one for each row of a slot; none where they were not asked for.
    pub texts: Vec<Text>,
}

impl Batch {
    /// Side of a view of the model's size, pixels.
    pub fn side(&self) -> usize {
        self.sections[0].side
    }

    /// Fills `images` with the normalised views, section by section.
    ///
    /// # Panics
    /// If `images` has another length.
    pub fn render(&self, images: &mut [f32]) -> Result<()> {
        assert_eq!(
            images.len(),
            Section::values_of(&self.sections),
            "batch: {} rows in {:?}",
            self.rows.len(),
            self.sections
        );
        self.sections.iter().try_for_each(|section| {
            images[section.values()]
                .par_chunks_exact_mut(section.view_len())
                .zip(&self.rows[section.rows.clone()])
                .try_for_each_init(Augmenter::default, |augmenter, (out, row)| {
                    augmenter.view(out, &row.image, &row.params, section.side)
                })
        })
    }

    /// The label of every row.
    pub fn labels(&self) -> Vec<u32> {
        self.rows.iter().map(|row| row.label).collect()
    }
}
