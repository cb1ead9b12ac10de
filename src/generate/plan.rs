//! What there is to do and what is done: one unit of work is one shard, and a shard that has its name and its end is
//! whole.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::captions::Caption;
use crate::error::{Error, Result};
use crate::shards::{Ending, SIZES_FILE, Shards, caption_name, ending, first_key, named_key, shard_name};
use crate::store;
use crate::weights::SafeTensors;

/// Name of the counts of a whole folder, written last of all.
pub(super) const STATS_FILE: &str = "stats.json";

/// One shard: a contiguous range of the caption list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub index: usize,
    pub captions: Range<usize>,
}

/// Counts of one shard or of a whole run. No clock time is in it: a resumed run ends in the same bytes as an
/// uninterrupted one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub captions: usize,
    pub images: usize,
    /// Captions longer than the text encoder reads; they were cut, as the reference pipelines do.
    pub truncated_captions: usize,
    /// What their samples are called, but for the image's number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<String>,
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
        self.truncated.extend_from_slice(&other.truncated);
        self.not_finite_images += other.not_finite_images;
        self.constant_images += other.constant_images;
    }

    /// Whether there can be a shard of which this is true: sums over shards stay numbers.
    fn possible(&self) -> bool {
        self.truncated_captions.max(self.truncated.len()) <= self.captions
            && self.not_finite_images.max(self.constant_images) <= self.images
    }

    /// Writes them to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Failed(e.to_string()))?;
        store::write_atomic(path, (text + "\n").as_bytes())
    }
}

/// When a unit is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demands<'a> {
    /// All of the run.
    pub captions: &'a [Caption],
    pub images_per_caption: usize,
    /// Final latents belong to it.
    pub latents: bool,
    /// A shard that was taken away is done if its counts are there.
    pub by_stats: bool,
}

/// What a folder holds of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Done(Stats),
    /// All of it, but for the counts, which were lost.
    Uncounted(Stats),
    /// The counts of a shard that is gone: it was moved away or deleted.
    Gone(Stats),
    /// A shard that has to be drawn again; why.
    Spoiled(String),
}

/// Cuts `captions` into units of `per_shard`.
pub fn units(captions: usize, per_shard: usize) -> Vec<Unit> {
    (0..captions.div_ceil(per_shard))
        .map(|index| Unit { index, captions: index * per_shard..((index + 1) * per_shard).min(captions) })
        .collect()
}

/// What the samples of a caption are called, but for the number of the image.
pub(super) fn name_of(caption: &Caption) -> Cow<'_, str> {
    match &caption.key {
        Some(key) => Cow::Borrowed(key),
        None => Cow::Owned(caption_name(caption.id)),
    }
}

/// Whether a file of this name in an output folder would be taken for a result of the run.
pub(super) fn is_output(name: &str) -> bool {
    let number = |stem: &str| !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".tar").or_else(|| name.strip_suffix("_stats.json")).is_some_and(number)
        || [STATS_FILE, SIZES_FILE].contains(&name)
}

impl Unit {
    /// File name of the shard.
    pub fn tar_name(&self) -> String {
        shard_name(self.index)
    }

    /// The shard itself.
    pub fn tar(&self, folder: &Path) -> PathBuf {
        folder.join(self.tar_name())
    }

    /// Counts of this shard. They are written last: where they are, the shard was whole.
    pub fn stats(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{:05}_stats.json", self.index))
    }

    /// Final latents of this shard, when they are kept.
    pub fn latents(&self, folder: &Path) -> PathBuf {
        folder.join("latents").join(format!("{:05}.safetensors", self.index))
    }

    /// Whether the unit is done, and if not, what there is of it.
    pub(super) fn held(&self, folder: &Path, demands: &Demands<'_>) -> Result<Held> {
        let counted = self.read_stats(folder)?;
        let (captions, images) = (self.captions.len(), self.captions.len() * demands.images_per_caption);
        match (ending(&self.tar(folder))?, counted) {
            (Ending::Absent, Some(stats)) if (stats.captions, stats.images) == (captions, images) => {
                Ok(if demands.by_stats { Held::Done(stats) } else { Held::Gone(stats) })
            }
            (Ending::Absent, _) => Ok(Held::Nothing),
            (Ending::Broken(why), _) => Ok(Held::Spoiled(why.into())),
            (_, _) if demands.latents && !self.has_latents(folder)? => {
                Ok(Held::Spoiled(format!("{} is missing or damaged", self.latents(folder).display())))
            }
            (_, Some(stats)) if (stats.captions, stats.images) != (captions, images) => {
                Ok(Held::Spoiled(format!("holds {} of its {captions} captions", stats.captions)))
            }
            (Ending::Padded, Some(stats)) => Ok(match self.count(folder, demands)? {
                Held::Uncounted(_) => Held::Done(stats),
                other => other,
            }),
            // Of a shard that has its end and its counts, what it begins with tells whether it is this one.
            (_, Some(stats)) => Ok(match first_key(&self.tar(folder))? {
                Some(key) if plain(&key) == self.key(0, demands) => Held::Done(stats),
                Some(key) => Held::Spoiled(another(&key, &self.key(0, demands))),
                None => Held::Spoiled("does not begin with a sample".into()),
            }),
            (_, None) => self.count(folder, demands),
        }
    }

    /// Whether the final latents are there and whole. That they cannot be read is neither.
    fn has_latents(&self, folder: &Path) -> Result<bool> {
        match SafeTensors::open(self.latents(folder)) {
            Ok(_) => Ok(true),
            Err(Error::Data(_)) => Ok(false),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// What sample `index` of the shard is called.
    fn key(&self, index: usize, demands: &Demands<'_>) -> String {
        let per_caption = demands.images_per_caption;
        let caption = &demands.captions[self.captions.start + index / per_caption];
        named_key(&name_of(caption), index % per_caption)
    }

    /// Makes the counts of a whole shard again, from what its samples say of themselves.
    fn count(&self, folder: &Path, demands: &Demands<'_>) -> Result<Held> {
        let images_per_caption = demands.images_per_caption;
        let shards = Shards::open(&[self.tar(folder)])?;
        if let Some(damage) = shards.damage().first() {
            return Ok(Held::Spoiled(format!("is damaged ({damage})")));
        }
        let captions = self.captions.len();
        if shards.len() != captions * images_per_caption {
            let (found, expected) = (shards.len(), captions * images_per_caption);
            return Ok(Held::Spoiled(format!("holds {found} of its {expected} images")));
        }
        let mut stats = Stats { captions, images: shards.len(), ..Stats::default() };
        for (index, sample) in shards.iter().enumerate() {
            let expected = self.key(index, demands);
            if plain(sample.key()) != expected {
                return Ok(Held::Spoiled(another(sample.key(), &expected)));
            }
            let record = sample.record()?;
            if record.caption_id.is_none() {
                return Ok(Held::Spoiled(format!("says nothing of {} that could be counted", sample.key())));
            }
            let has = |flag: &str| usize::from(record.flags.iter().any(|name| name == flag));
            // All images of a caption say of it that it was cut.
            if index % images_per_caption == 0 && has("truncated") > 0 {
                stats.truncated_captions += 1;
                stats.truncated.extend(sample.key().rsplit_once('_').map(|(name, _)| name.to_owned()));
            }
            stats.not_finite_images += has("not_finite");
            stats.constant_images += has("constant");
        }
        Ok(Held::Uncounted(stats))
    }

    /// The counts a finished unit left, if they can be read.
    fn read_stats(&self, folder: &Path) -> Result<Option<Stats>> {
        let path = self.stats(folder);
        match store::read(&path, store::RECORD) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(Stats::possible)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }
}

/// The key of a sample without the `./` that `tar -c .` puts before it.
fn plain(key: &str) -> &str {
    key.strip_prefix("./").unwrap_or(key)
}

fn another(found: &str, expected: &str) -> String {
    format!("is another shard: sample {found} stands where {expected} belongs")
}

#[cfg(test)]
mod tests {
    use std::fs;

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

    #[test]
    fn counts_that_no_shard_has_are_none() {
        let folder = tempfile::TempDir::new().unwrap();
        let unit = Unit { index: 0, captions: 0..2 };
        let read = |truncated: u64, constant: u64| {
            let text = format!(
                r#"{{"captions": 2, "images": 4, "truncated_captions": {truncated}, "not_finite_images": 0,
                "constant_images": {constant}}}"#
            );
            fs::write(unit.stats(folder.path()), text).unwrap();
            unit.read_stats(folder.path()).unwrap().is_some()
        };
        assert!(read(2, 4));
        assert!(!read(3, 0) && !read(0, 5) && !read(u64::MAX, 0) && !read(0, u64::MAX));
    }

    #[test]
    fn results_are_known_by_their_names() {
        for name in ["00000.tar", "123456.tar", "00000_stats.json", "stats.json", "sizes.json"] {
            assert!(is_output(name), "{name}");
        }
        for name in ["photos.tar", ".tar", "generate.json", "notes.txt", "_stats.json", "w=2.0"] {
            assert!(!is_output(name), "{name}");
        }
    }
}
