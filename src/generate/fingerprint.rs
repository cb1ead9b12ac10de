//! Which model it is: SHA-256 over everything of it that decides an image.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::lora::Lora;
use super::painter::NOTHING_YET;
use crate::config::hex;
use crate::device::MappedFile;
use crate::error::{Error, Result};
use crate::store;
use crate::weights::{Cache, SafeTensors};

/// Files beside the weights.
const OTHERS: [&str; 10] = [
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/added_tokens.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
];

/// What a model is.
pub(super) struct Fingerprint {
    pub sha256: String,
    /// Of each file that is folded in, its scale and its hash.
    pub loras: Vec<String>,
}

/// Bytes that are hashed between two looks for a signal.
const CHUNK: usize = 64 << 20;

/// Of weights, configs and tokenizer: names, lengths and bytes in the order of the names. Gigabytes take seconds to
/// hash, so the result is kept, by what the file system knows of the files' states. LoRA files, whatever they are called, follow with their scales, in the order in which they are folded in.
pub(super) fn fingerprint(
    model: &Path,
    weights: [&SafeTensors; 3],
    loras: &[Lora],
    cache: &Cache,
) -> Result<Fingerprint> {
    let mut files: Vec<PathBuf> = weights.iter().flat_map(|w| w.files().map(Path::to_path_buf)).collect();
    files.extend(OTHERS.iter().map(|name| model.join(name)).filter(|path| path.exists()));
    files.sort();
    let mut all = Fingerprint { sha256: hash_of(model, &files, cache)?, loras: Vec::new() };
    for Lora { path, scale } in loras {
        let file = hash_of(path, std::slice::from_ref(path), cache)?;
        all.sha256 = hex(&Sha256::digest(format!("{} {file} {scale}", all.sha256)));
        all.loras.push(format!("{scale} of {file}"));
    }
    Ok(all)
}

/// Of these files, by their names below `folder`.
fn hash_of(folder: &Path, files: &[PathBuf], cache: &Cache) -> Result<String> {
    let state = states(folder, files)?;
    let known = format!("{state}.sha256");
    if let Some(text) = cache.get(&known).and_then(|file| String::from_utf8(file.to_vec()).ok())
        && text.len() == 64
    {
        return Ok(text);
    }
    let mut hash = Sha256::new();
    for path in files {
        let bytes = MappedFile::open(path)?;
        hash.update(format!("{} {}\n", name_below(folder, path), bytes.len()));
        for chunk in bytes.chunks(CHUNK) {
            hash.update(chunk);
            store::check_interrupt(NOTHING_YET)?;
        }
    }
    let hash = hex(&hash.finalize());
    // Of files that changed meanwhile nobody knows which state the hash is of.
    if states(folder, files)? == state {
        cache.put(&known, hash.as_bytes());
    }
    Ok(hash)
}

/// What a file is called in a hash.
fn name_below(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

/// A name for these files in this state: their names and places, lengths, and which bytes the file system last wrote there and
/// when. The time of modification alone would not do: tools that copy and edit set it back, and nothing but the system
/// sets the time of change.
fn states(folder: &Path, files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        let real = fs::canonicalize(path).map_err(Error::io("find", path))?;
        let info = fs::metadata(&real).map_err(Error::io("read", &real))?;
        let (modified, changed) = ((info.mtime(), info.mtime_nsec()), (info.ctime(), info.ctime_nsec()));
        let place = (info.dev(), info.ino());
        hash.update(format!("{}\n{}\n", name_below(folder, path), real.display()));
        hash.update(format!("{} {modified:?} {changed:?} {place:?}\n", info.len()));
    }
    Ok(hex(&hash.finalize()))
}
