//! `--model`: a folder, or the model in the binary; and `--lora`, what is folded into it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::demo::assets;
use super::paths;
use crate::bail;
use crate::error::{Error, Result};
use crate::generate::Lora;
use crate::say;
use crate::weights::Cache;

/// Name of the model in the binary.
const BUNDLED: &str = "bundled";

/// Its folder in the cache, where other versions of this program keep theirs beside it.
const UNPACKED: &str = concat!("bundled-", env!("CARGO_PKG_VERSION"));

/// What is folded into the weights of a model.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LoraArgs {
    /// A LoRA (.safetensors, kohya's or diffusers' names) that is folded into the model's weights, at a scale of 1
    /// unless another is said; may be given several times. What was drawn with it is drawn again with it alone
    #[arg(long, value_name = "FILE[=SCALE]")]
    lora: Vec<Lora>,
}

impl LoraArgs {
    /// The files, which have to be there.
    ///
    /// # Errors
    /// Usage error for one that is not.
    pub fn open(self) -> Result<Vec<Lora>> {
        for Lora { path, .. } in &self.lora {
            let expected = "a LoRA, .safetensors; behind the last `=` stands its scale, if that is a number";
            if path.as_os_str() == "-" {
                bail!(Usage, "--lora -: weights are read from files alone; expected {expected}");
            }
            if let Err(what) = paths::refuse_tilde(path.clone()).and_then(|path| paths::file(&path, expected)) {
                bail!(Usage, "--lora {}: {what}", path.display());
            }
        }
        Ok(self.lora)
    }
}

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
