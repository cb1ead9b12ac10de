//! Features that were computed once, in a folder, found again by what they depend on: weights, device, preparation and
//! the pictures themselves, never by a name.

use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::hex;
use crate::error::{Error, Result};
use crate::say;
use crate::store::create_dir;
use crate::weights::{SafeTensors, write_safetensors};

/// Changes whenever the same weights and pictures would give other features.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ", features 1");

/// The tensor of a file.
const FEATURES: &str = "features";

/// A folder of features of one encoder.
#[derive(Clone, Debug)]
pub struct Kept {
    folder: PathBuf,
    encoder: [u8; 32],
}

impl Kept {
    /// Those of the encoder known by `encoder`, in `folder`, which is made.
    ///
    /// # Errors
    /// `Io` when it cannot be.
    pub fn new(folder: PathBuf, encoder: [u8; 32]) -> Result<Self> {
        create_dir(&folder)?;
        Ok(Self { folder, encoder })
    }

    /// What features are known by that this encoder gives of pictures known by `pictures`, prepared by `transform`.
    ///
    /// # Errors
    /// `Failed` when `transform` is no JSON.
    pub fn key(&self, transform: &impl Serialize, pictures: &[[u8; 16]]) -> Result<String> {
        key(self.encoder, transform, &[pictures])
    }

    /// Fills `out`, rows of `width` values, with what is kept as `key`, and says whether that is there.
    pub fn read(&self, key: &str, width: usize, out: &mut [f32]) -> bool {
        let path = self.path(key);
        if !path.exists() {
            return false;
        }
        let shape = [out.len() / width, width];
        match SafeTensors::open(&path).and_then(|file| file.f32(FEATURES, &shape)) {
            Ok(features) => out.copy_from_slice(&features),
            Err(error) => {
                say!("warning: {error}; computed anew");
                return false;
            }
        }
        true
    }

    /// Keeps `features`, rows of `width` values, as `key`; `of` says whose they are, for people.
    ///
    /// # Errors
    /// `Io` when they cannot be written.
    pub fn write(&self, key: &str, width: usize, features: &[f32], of: [(&str, &str); 2]) -> Result<()> {
        let tensor = (FEATURES.to_owned(), vec![features.len() / width, width], features);
        write_safetensors(self.path(key), &[tensor], &of.map(|(name, text)| (name, text.to_owned())))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.safetensors"))
    }
}

/// What depends on an encoder, on `settings` and on lists of pictures, in order, is known by this.
///
/// # Errors
/// `Failed` when `settings` are no JSON.
pub fn key(encoder: [u8; 32], settings: &impl Serialize, pictures: &[&[[u8; 16]]]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(encoder);
    let settings = serde_json::to_vec(settings).map_err(|e| Error::Failed(format!("settings: {e}")))?;
    hash.update((settings.len() as u64).to_le_bytes());
    hash.update(settings);
    for list in pictures {
        hash.update((list.len() as u64).to_le_bytes());
        list.iter().for_each(|picture| hash.update(picture));
    }
    Ok(hex(&hash.finalize()[..20]))
}

/// What an encoder is known by: its weights, `settings` that change what it computes, and the device.
///
/// # Errors
/// `Failed` when `settings` are no JSON.
pub fn identity(params: &[f32], settings: &impl Serialize, device: &str) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let settings = serde_json::to_vec(settings).map_err(|e| Error::Failed(format!("encoder: {e}")))?;
    for part in [VERSION.as_bytes(), device.as_bytes(), &settings] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(bytemuck::cast_slice::<f32, u8>(params));
    Ok(hash.finalize().into())
}
