//! What there is to do and what is done: one unit of work is one shard, and a shard that has its name is whole.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::shards::shard_name;

/// One shard: a contiguous range of the caption list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub index: usize,
    pub captions: Range<usize>,
}

/// Counts of one shard or of a whole run. No clock time is in it: a resumed run ends in the same bytes as an uninterrupted one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub captions: usize,
    pub images: usize,
    /// Captions longer than the text encoder reads; they were cut, as the reference pipelines do.
    pub truncated_captions: usize,
    /// Images with a value that was not a number.
    pub not_finite_images: usize,
    /// Images of one single color.
    pub constant_images: usize,
}

impl Stats {
    /// Adds the counts of another shard.
    pub fn add(&mut self, other: &Self) {
        self.captions += other.captions;
        self.images += other.images;
        self.truncated_captions += other.truncated_captions;
        self.not_finite_images += other.not_finite_images;
        self.constant_images += other.constant_images;
    }
}

/// Cuts `captions` into units of `per_shard`.
pub fn units(captions: usize, per_shard: usize) -> Vec<Unit> {
    (0..captions.div_ceil(per_shard))
        .map(|index| Unit { index, captions: index * per_shard..((index + 1) * per_shard).min(captions) })
        .collect()
}

impl Unit {
    /// File name of the shard.
    pub fn tar_name(&self) -> String {
        shard_name(self.index)
    }

    /// The shard itself. It is renamed into place last, so if it exists the unit is done.
    pub fn tar(&self, folder: &Path) -> PathBuf {
        folder.join(self.tar_name())
    }

    /// Counts of this shard, written before it.
    pub fn stats(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{:05}_stats.json", self.index))
    }

    /// Final latents of this shard, when they are kept.
    pub fn latents(&self, folder: &Path) -> PathBuf {
        folder.join("latents").join(format!("{:05}.safetensors", self.index))
    }

    /// Whether nothing is left to do.
    pub fn done(&self, folder: &Path) -> bool {
        self.tar(folder).exists()
    }

    /// The counts a finished unit left.
    pub fn read_stats(&self, folder: &Path) -> Result<Stats> {
        let path = self.stats(folder);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Error::Data(format!("{}: {e}; delete {} to have this shard made again", path.display(), self.tar_name()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_every_caption_once() {
        for captions in 1..40 {
            for per_shard in 1..12 {
                let units = units(captions, per_shard);
                let all: Vec<usize> = units.iter().flat_map(|unit| unit.captions.clone()).collect();
                assert_eq!(all, (0..captions).collect::<Vec<_>>());
                assert!(units.iter().all(|unit| (1..=per_shard).contains(&unit.captions.len())));
            }
        }
    }
}
