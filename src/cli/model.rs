//! `--model`: a folder, or the model in the binary.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::demo::assets;
use crate::error::{Error, Result};
use crate::say;

/// Name of the model in the binary.
const BUNDLED: &str = "bundled";

/// The folder of a model; one that was unpacked for it goes when this does.
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
        let unpacked = TempDir::with_prefix("stablerep-").map_err(Error::io("create", std::env::temp_dir()))?;
        let folder = assets::unpack_model(unpacked.path())?;
        say!(
            "--model bundled: a tiny Stable Diffusion that has seen garments only; whatever a caption asks for, it draws clothes"
        );
        Ok(Self { folder, _unpacked: Some(unpacked) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
