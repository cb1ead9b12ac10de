//! What a loader is asked for.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::labelled::Labelled;
use super::scene::Scene;
use super::section::Section;
use crate::bail;
use crate::error::Result;
use crate::image::Filter;
use crate::models::tokenizer::Tokenizer;
use crate::ops::augment::{Augment, Policy};

/// Which images belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Positives {
    /// Those of captions of the same text
    #[default]
    Text,
    /// Those of the same caption: one text under two caption ids is two
    Caption,
    /// Those of the same class number (.cls)
    Class,
}

/// Small crops beside those of the model's size (multi-crop; Caron et al. 2020, arXiv 2006.09882).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalCrops {
    /// How many of each image.
    pub crops: usize,
    /// Their side, pixels.
    pub size: usize,
    /// Share of the area that one takes, smallest and largest.
    pub scale: [f64; 2],
}

/// What a view slot shows of a caption.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Which of its images, and which crop of that.
    pub image: usize,
    pub crop: usize,
    pub augment: Augment,
}

/// What a loader draws batches from.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Folders of shards, tars, or patterns of tars.
    pub data: Vec<PathBuf>,
    /// How much of a batch each of `data` is given, in proportion; none where all is one set.
    pub weights: Vec<f64>,
    /// Which images have one label.
    pub positives: Positives,
    /// Captions per batch, n.
    pub captions_per_batch: usize,
    /// Different images drawn of each caption, m.
    pub images_per_caption: usize,
    /// Views made of each drawn image (2 for SimCLR).
    pub crops: usize,
    /// Small crops of each beside them.
    pub local: Option<LocalCrops>,
    /// Side of a view, pixels.
    pub image_size: usize,
    pub augmentation: Policy,
    /// Share of the area that a crop takes, smallest and largest.
    pub crop_scale: [f64; 2],
    /// What a crop is resized by.
    pub crop_filter: Filter,
    /// Captions with fewer images are left out; m where absent.
    pub min_images: Option<usize>,
    /// Otherwise captions come in order, and of each its first m images.
    pub shuffle: bool,
    pub seed: u64,
    /// Bad samples tolerated; each is named on stderr.
    pub max_bad: usize,
    /// Whether one image in twenty is shrunk and enlarged first.
    pub downsample: bool,
    /// What makes tokens of the captions, where batches hold their texts.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Whether any of a sample's texts may be read, else its caption is.
    pub any_caption: bool,
    /// Where labelled pictures are drawn, each by itself, whose views the host makes.
    pub labelled: Option<Labelled>,
    /// Where pictures with the classes of their pixels are, whose views the host makes too.
    pub scene: Option<Scene>,
}

impl LoaderConfig {
    /// Views of one caption: images × crops, small ones among them.
    pub fn views(&self) -> usize {
        self.images_per_caption * (self.crops + self.local.map_or(0, |local| local.crops))
    }

    /// What view slot `slot` shows, drawn by `augment`: the crops of the model's size come first, image by image, then
    /// the small ones.
    pub fn slot(&self, slot: usize, augment: &Augment) -> Slot {
        let first = self.images_per_caption * self.crops;
        match self.local.filter(|_| slot >= first) {
            None => Slot { image: slot / self.crops, crop: slot % self.crops, augment: augment.of_slot(slot) },
            Some(LocalCrops { crops, scale, .. }) => Slot {
                image: (slot - first) / crops,
                crop: self.crops + (slot - first) % crops,
                augment: augment.of_local(scale),
            },
        }
    }

    /// The rows of a batch by their size.
    pub fn sections(&self) -> Vec<Section> {
        let (n, m) = (self.captions_per_batch, self.images_per_caption);
        let first = Section::behind(None, n * m * self.crops, self.image_size);
        let local = self.local.map(|local| Section::behind(Some(&first), n * m * local.crops, local.size));
        [first].into_iter().chain(local).collect()
    }

    /// Images that a caption must have, m at least.
    pub(super) fn least_images(&self) -> usize {
        self.min_images.unwrap_or(0).max(self.images_per_caption)
    }

    /// What a device makes of the rows of a batch: nothing where the host made their views.
    pub fn augment(&self) -> Augment {
        match self.is_host_made() {
            true => Augment { policy: Policy::None, downsample: false, ..self.drawn() },
            false => self.drawn(),
        }
    }

    /// Whether the host makes views whole: what devices see of them has the model's side.
    pub(super) fn is_host_made(&self) -> bool {
        self.labelled.is_some() || self.scene.is_some()
    }

    /// What views are drawn from.
    pub(super) fn drawn(&self) -> Augment {
        let Self { augmentation: policy, crop_scale, crop_filter: filter, downsample, .. } = *self;
        Augment { policy, crop_scale, filter, downsample }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.captions_per_batch == 0 || self.images_per_caption == 0 || self.crops == 0 {
            bail!(Usage, "captions per batch, images per caption and crops must be at least 1");
        }
        if self.is_host_made() && self.views() != 1 {
            bail!(Usage, "labelled pictures are drawn one by one, one crop of each");
        }
        if self.image_size == 0 || self.image_size > 4096 {
            bail!(Usage, "image size {}: expected 1 to 4096", self.image_size);
        }
        let [low, high] = self.crop_scale;
        if !(0.0 < low && low <= high && high <= 1.0) {
            bail!(Usage, "crop scale {low},{high}: expected two shares of the area, 0 < low ≤ high ≤ 1");
        }
        Ok(())
    }
}

pub(super) fn over_limit(bad: usize, allowed: usize) -> String {
    format!(
        "{bad} bad sample(s), --max-bad allows {allowed}: repair or regenerate the shard, or raise --max-bad to \
         train without them"
    )
}
