//! What a generation run is: everything asked for.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::drawing::{Drawing, guides};
use super::limits::{check_batch, check_scale, within};
use super::lora::Lora;
use super::settings::Precision;
use crate::bail;
use crate::captions;
use crate::device::Device;
use crate::dist::Ranks;
use crate::error::Result;
use crate::store;

/// How stored images are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Lossless, as the paper stores them.
    Png,
    /// Smaller; see --quality.
    Jpg,
}

/// JPEG quality where nobody says otherwise.
pub(super) const QUALITY: u8 = 95;

impl ImageFormat {
    /// Member extension inside a shard.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
        }
    }

    /// The JPEG quality to use, `given` or the usual one.
    ///
    /// # Errors
    /// Usage error for one that is no quality, or that the format has no use for.
    pub fn quality(self, given: Option<u8>) -> Result<u8> {
        if let (Self::Png, Some(quality)) = (self, given) {
            bail!(Usage, "--quality {quality}: applies to --format jpg alone; png loses nothing");
        }
        let quality = given.unwrap_or(QUALITY);
        within("--quality", usize::from(quality), 1, 100)?;
        Ok(quality)
    }
}

/// A generation run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Diffusers folder.
    pub model: PathBuf,
    /// Files that are folded into it.
    pub loras: Vec<Lora>,
    /// Caption file and how to read it.
    pub captions: PathBuf,
    pub caption_options: captions::Options,
    /// m of the paper: images drawn for each caption.
    pub images_per_caption: usize,
    pub drawing: Drawing,
    /// When not empty: a shard set for each of these instead, in a folder of its own under `output`.
    pub sweep_guidance: Vec<f32>,
    /// Side of the shorter edge as stored; no downscale when absent.
    pub store_size: Option<usize>,
    pub format: ImageFormat,
    /// Of [`ImageFormat::quality`].
    pub quality: u8,
    /// Images drawn at once; changes speed and memory, never the images. The device's usual number when absent.
    pub batch: Option<usize>,
    pub device: Device,
    pub precision: Option<Precision>,
    /// Calibration for e4m3 layers.
    pub fp8: Option<PathBuf>,
    pub images_per_shard: usize,
    /// Initial latents instead of drawn ones.
    pub initial_noise: Option<PathBuf>,
    pub save_latents: bool,
    /// Take a shard that was moved away as done if its counts are there.
    pub done_by_stats: bool,
    /// Before the shards, draw some captions with every call whole and guided too, and compare.
    pub compare: bool,
    pub output: PathBuf,
    pub ranks: Ranks,
}

impl Config {
    /// Refuses numbers no run can have, before anything is read.
    pub fn check(&self) -> Result<()> {
        within("--images-per-caption", self.images_per_caption, 1, 1_000)?;
        within("--images-per-shard", self.images_per_shard, 1, 1_000_000)?;
        self.drawing.check()?;
        self.check_compare()?;
        check_batch(self.batch)?;
        if let Some(size) = self.store_size {
            within("--store-size", size, 1, 4_096)?;
        }
        let flag = "--sweep-guidance";
        let sets = self.sets();
        for (i, (w, _)) in sets.iter().enumerate() {
            check_scale(flag, *w)?;
            if sets[..i].iter().any(|(other, _)| other == w) {
                bail!(Usage, "{flag}: {w} twice");
            }
            if let Some((other, _)) = sets[..i].iter().find(|(other, _)| !guides(*other) && !guides(*w)) {
                bail!(
                    Usage,
                    "{flag}: {other} and {w} draw the same pictures, because 1 and less follow the caption alone; give one"
                );
            }
        }
        sets.iter().try_for_each(|(_, folder)| store::check_folder(folder))
    }

    /// The shard sets of the run: guidance scale and folder of each.
    pub fn sets(&self) -> Vec<(f32, PathBuf)> {
        if self.sweep_guidance.is_empty() {
            return vec![(self.drawing.guidance_scale, self.output.clone())];
        }
        // `w=2.0`, `w=7.5`.
        self.sweep_guidance.iter().map(|&w| (w, self.output.join(format!("w={w:?}")))).collect()
    }

    /// Captions whose images share a shard.
    pub fn captions_per_shard(&self) -> usize {
        (self.images_per_shard / self.images_per_caption).max(1)
    }
}
