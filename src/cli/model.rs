//! `--model`: a folder, or the model in the binary.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::demo::assets;
use crate::error::{Error, Result};
use crate::say;
use crate::weights::Cache;

/// Name of the model in the binary.
const BUNDLED: &str = "bundled";

/// Its folder in the cache, where other versions of this program keep theirs beside it.
const UNPACKED: &str = concat!("bundled-", env!("CARGO_PKG_VERSION"));

/// The folder of a model; one that was unpacked outside the cache goes when this does.
#[derive(Debug)]
pub struct Model {
    folder: PathBuf,
    _unpacked: Option<TempDir>,
}

impl Model {
    /// What `--model` names: `bundled`, or a folder (`./bundled` for one of that name).
    pub fn open(named: PathBuf) -> Result<Self> {
        if named != Path::new(BUNDLED) {
            return Ok(Self { folder: named, _unpacked: None });
        }
        say!(
            "--model bundled: a tiny Stable Diffusion that has seen garments only; whatever a caption asks for, it draws clothes"
        );
        // A kill leaves nothing behind in the cache that the next start would not use.
        let kept = Cache::open().folder().map(|cache| assets::unpack_model(&cache.join(UNPACKED)));
        if let Some(Ok(folder)) = kept {
            return Ok(Self { folder, _unpacked: None });
        }
        let unpacked = TempDir::with_prefix("stablerep-").map_err(Error::io("create", std::env::temp_dir()))?;
        Ok(Self { folder: assets::unpack_model(unpacked.path())?, _unpacked: Some(unpacked) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
