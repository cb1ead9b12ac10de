//! Samples of shards that are used as images.

use crate::error::Result;
use crate::shards::{SampleRef, Shards};

/// Mapped shards, and which of their samples are used.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) shards: Shards,
    /// Numbers of the pictures.
    pub(super) pictures: Vec<u32>,
}

impl Samples {
    /// The file of image `index`.
    pub(super) fn bytes(&self, index: usize) -> Result<Vec<u8>> {
        self.shards.picture(self.pictures[index])?.read()
    }

    /// The sample that image `index` is of.
    pub(super) fn sample(&self, index: usize) -> Result<SampleRef<'_>> {
        Ok(self.shards.picture(self.pictures[index])?.sample())
    }

    /// Shard and key of image `index`.
    pub(super) fn describe(&self, index: usize) -> String {
        self.shards.picture(self.pictures[index]).map(|picture| picture.name()).unwrap_or_default()
    }
}
