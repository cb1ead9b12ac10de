//! Generated sets: which folders there are, and what their samples say of how they were drawn.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::config::json;
use crate::error::{Error, Result};
use crate::eval::dataset::Dataset;
use crate::shards::locate;

/// The folders of `path`: those of its guidance scales (`w=2.0`, `w=3.0` …, by their numbers) where it is a sweep of
/// `generate`, else itself.
///
/// # Errors
/// `Io` when a folder cannot be listed.
pub fn sets(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() || locate(path).is_ok() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let path = entry.map_err(Error::io("list", path))?.path();
        let scale = path.file_name().and_then(|name| name.to_str()?.strip_prefix("w=")?.parse::<f32>().ok());
        found.extend(scale.filter(|_| path.is_dir()).map(|scale| (scale, path)));
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    match found.is_empty() {
        true => Ok(vec![path.to_path_buf()]),
        false => Ok(found.into_iter().map(|(_, path)| path).collect()),
    }
}

/// What the .json of a generated sample says.
#[derive(Deserialize)]
struct Record {
    caption: String,
    seed: u64,
    image_index: u64,
    /// As the generator wrote it, an f32 in decimals.
    guidance_scale: f64,
}

/// How the pictures of a set were drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// The guidance scale of all of them.
    pub guidance_scale: Option<f64>,
    /// Half a hash of caption, seed and image index of every picture, sorted; empty where any does not tell.
    pub draws: Vec<[u8; 16]>,
}

impl Drawn {
    /// Reads the records of all pictures of `images`.
    ///
    /// # Errors
    /// If a shard cannot be read.
    pub fn of(images: &Dataset) -> Result<Self> {
        let mut draws = Vec::with_capacity(images.len());
        let mut scale = None;
        let mut one = true;
        for index in 0..images.len() {
            let Some(sample) = images.sample(index)? else { return Ok(Self::default()) };
            let record = sample.read("json")?.and_then(|bytes| json::parse_note::<Record>(&bytes).ok());
            let Some(record) = record else { return Ok(Self::default()) };
            let known = *scale.get_or_insert(record.guidance_scale);
            one &= known == record.guidance_scale;
            let mut hash = Sha256::new();
            hash.update(record.seed.to_le_bytes());
            hash.update(record.image_index.to_le_bytes());
            hash.update(record.caption);
            let mut draw = [0; 16];
            draw.copy_from_slice(&hash.finalize()[..16]);
            draws.push(draw);
        }
        draws.sort_unstable();
        Ok(Self { guidance_scale: scale.filter(|_| one), draws })
    }

    /// How many draws of this set `other` does not have.
    fn not_in(&self, other: &Self) -> usize {
        self.draws.iter().filter(|draw| other.draws.binary_search(draw).is_err()).count()
    }
}

/// Whether sets are of the same captions, seeds and image indices, in a line; nothing for fewer than two, or where
/// records do not tell.
pub fn compared(sets: &[(&str, &Drawn)]) -> Option<String> {
    let ((first, drawn), others) = sets.split_first()?;
    if others.is_empty() || sets.iter().any(|(_, drawn)| drawn.draws.is_empty()) {
        return None;
    }
    let differ = |(name, other): &(&str, &Drawn)| {
        let (more, fewer) = (other.not_in(drawn), drawn.not_in(other));
        (more + fewer > 0).then(|| {
            format!(
                "warning: {name} and {first} were not drawn from the same captions and seeds: {more} picture(s) of the \
                 one and {fewer} of the other have no partner"
            )
        })
    };
    let lines: Vec<String> = others.iter().filter_map(differ).collect();
    Some(match lines.is_empty() {
        true => "all sets were drawn from the same captions, seeds and image indices".into(),
        false => lines.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(numbers: &[u8]) -> Drawn {
        Drawn { guidance_scale: None, draws: numbers.iter().map(|&n| [n; 16]).collect() }
    }

    #[test]
    fn sets_of_other_draws_are_named() {
        let (a, b, none) = (drawn(&[1, 2, 3]), drawn(&[1, 2, 4, 5]), drawn(&[]));
        let same = compared(&[("a", &a), ("b", &a)]).unwrap();
        assert!(same.starts_with("all sets"), "{same}");
        let other = compared(&[("a", &a), ("b", &b), ("c", &a)]).unwrap();
        assert!(
            other.contains("b and a were not") && other.contains("2 picture(s) of the one and 1 of the other"),
            "{other}"
        );
        assert_eq!(compared(&[("a", &a)]), None);
        assert_eq!(compared(&[("a", &a), ("b", &none)]), None);
    }

    #[test]
    fn sweeps_come_by_their_scales() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["w=10.0", "w=2.0", "notes", "w=x"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let names = |path: &Path| -> Vec<String> {
            let names = sets(path).unwrap().into_iter();
            names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(folder.path()), ["w=2.0", "w=10.0"]);
        assert_eq!(names(&folder.path().join("notes")), ["notes"]);
    }
}
