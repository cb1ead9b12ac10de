//! Data sets that are finished: one file each in the output folder, with what its numbers depend on.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::report::DataScore;
use crate::config::hex;
use crate::error::{Error, Result};
use crate::eval::encoder::Encoder;
use crate::eval::screen::Screened;
use crate::eval::transform::Transform;
use crate::store;

#[derive(Deserialize, Serialize)]
struct Kept {
    key: String,
    #[serde(flatten)]
    score: DataScore,
}

/// What a data set's numbers depend on: weights, normalisation, device, transform, settings, and of every image its
/// bytes, its label and its part (SHA-256, hex).
///
/// # Errors
/// As [`Encoder::identity`].
pub fn key(
    encoder: &Encoder,
    transform: Transform,
    seed: u64,
    iterations: usize,
    parts: &[Screened],
) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(encoder.identity()?);
    hash.update(format!("{:?}", (transform, seed, iterations)));
    for part in parts {
        hash.update(format!("{} {:?}", part.images.len(), part.images.class_names()));
        for (fingerprint, label) in part.fingerprints.iter().zip(part.images.labels()) {
            hash.update(fingerprint);
            hash.update(label.to_le_bytes());
        }
    }
    Ok(hex(&hash.finalize()))
}

/// What is kept of the data set `name` under this `key`.
///
/// # Errors
/// `Io` when the file cannot be read. What is no record of this program is as if it were not there.
pub fn read(folder: &Path, name: &str, key: &str) -> Result<Option<DataScore>> {
    let path = folder.join(format!("{name}.json"));
    match store::read(&path, store::RECORD) {
        Ok(bytes) => {
            let kept: Option<Kept> = serde_json::from_slice(&bytes).ok();
            Ok(kept.filter(|kept| kept.key == key).map(|kept| kept.score))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

/// Keeps a score.
///
/// # Errors
/// `Io` when the file cannot be written.
pub fn write(folder: &Path, key: &str, score: &DataScore) -> Result<()> {
    let kept = Kept { key: key.to_owned(), score: score.clone() };
    store::write_record(folder, &format!("{}.json", score.name), &kept)
}
