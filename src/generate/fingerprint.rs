//! Which model it is: SHA-256 over everything of it that decides an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::device::MappedFile;
use crate::error::{Error, Result};
use crate::weights::{Cache, SafeTensors};

/// Files beside the weights.
const OTHERS: [&str; 9] = [
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
];

/// Of weights, configs and tokenizer: names, lengths and bytes in the order of the names. Gigabytes take seconds to hash, so the result is
/// kept, by the files' places, lengths and times of change.
pub(super) fn fingerprint(model: &Path, weights: [&SafeTensors; 3], cache: &Cache) -> Result<String> {
    let mut files: Vec<PathBuf> = weights.iter().flat_map(|w| w.files().map(Path::to_path_buf)).collect();
    files.extend(OTHERS.iter().map(|name| model.join(name)).filter(|path| path.exists()));
    files.sort();
    let known = format!("{}.sha256", states(&files)?);
    if let Some(text) = cache.get(&known).and_then(|file| String::from_utf8(file.to_vec()).ok())
        && text.len() == 64
    {
        return Ok(text);
    }
    let mut hash = Sha256::new();
    for path in files {
        let bytes = MappedFile::open(&path)?;
        let name = path.strip_prefix(model).unwrap_or(&path).to_string_lossy().into_owned();
        hash.update(format!("{name} {}\n", bytes.len()));
        hash.update(&bytes[..]);
    }
    let hash = super::hex(&hash.finalize());
    cache.put(&known, hash.as_bytes());
    Ok(hash)
}

/// A name for these files in this state.
fn states(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        let real = fs::canonicalize(path).map_err(Error::io("find", path))?;
        let info = fs::metadata(&real).map_err(Error::io("read", &real))?;
        let changed = info.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        hash.update(format!("{}\n{} {}\n", real.display(), info.len(), changed.as_nanos()));
    }
    Ok(super::hex(&hash.finalize()))
}
