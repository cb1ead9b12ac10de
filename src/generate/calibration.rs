//! The file that `calibrate` writes and `generate --fp8` reads: how large the inputs of the layers get that e4m3 is
//! for.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::drawing::Drawing;
use crate::bail;
use crate::config::hex;
use crate::error::{Error, Result};
use crate::models::unet;
use crate::store;

/// Ranges of one model, and what was drawn to find them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub model_sha256: String,
    pub captions_sha256: String,
    pub images: usize,
    /// With the size that was drawn.
    #[serde(flatten)]
    pub drawing: Drawing,
    /// Largest magnitude of what each layer reads, by diffusers' name; layers that are not here stay in 16 bits.
    pub ranges: BTreeMap<String, f32>,
}

/// A calibration as it lies in a file.
#[derive(Clone, Debug)]
pub struct CalibrationFile {
    pub calibration: Calibration,
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub sha256: String,
}

impl CalibrationFile {
    /// # Errors
    /// Usage error if there is no such file, data error if it is another.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = store::read(path, store::RECORD).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::Usage(format!(
                "--fp8 {}: no such file; `stablerep calibrate` makes it for a model",
                path.display()
            )),
            _ => Error::io("read", path)(e),
        })?;
        let calibration: Calibration = serde_json::from_slice(&bytes).map_err(|e| {
            Error::Data(format!("{}: expected what `stablerep calibrate` writes ({e})", path.display()))
        })?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Self { calibration, bytes, sha256 })
    }
}

impl Calibration {
    /// Whether these are ranges for this model: its weights, and names and numbers that its layers can use. Messages
    /// call it by the file that `--fp8` names.
    pub(super) fn check(&self, model: &Path, sha256: &str, config: &unet::Config) -> Result<()> {
        if self.model_sha256 != sha256 {
            bail!(
                Usage,
                "--fp8: the calibration is another model's: it was made for {}, {} is {sha256}; run stablerep calibrate with this model",
                self.model_sha256,
                model.display()
            );
        }
        let (known, after) = (config.quantizable(), config.quantizable_after());
        for (name, &range) in &self.ranges {
            if !known.contains(name) {
                bail!(Data, "--fp8: ranges: `{name}` is no layer that can be computed in e4m3; remove it");
            }
            if !(range.is_finite() && range >= SMALLEST) {
                bail!(
                    Data,
                    "--fp8: ranges: `{name}` is {range}, expected a number from {SMALLEST:e} on; calibrate again"
                );
            }
            if let Some(before) = after.get(name).filter(|before| !self.ranges.contains_key(*before)) {
                bail!(
                    Data,
                    "--fp8: ranges: `{name}` reads what `{before}` stores, which is not there; remove both or neither"
                );
            }
        }
        Ok(())
    }
}

/// Smallest range: its reciprocal and 448ths of it are normal numbers.
pub(super) const SMALLEST: f32 = 1e-30;
