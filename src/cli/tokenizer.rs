//! What `--tokenizer` names.

use std::path::Path;

use tempfile::TempDir;

use super::demo::assets;
use super::paths;
use crate::bail;
use crate::error::{Error, Result};
use crate::models::tokenizer::Tokenizer;

/// Name of the vocabulary in the binary.
pub const BUNDLED: &str = "bundled";

/// Opens it for texts of `length` tokens.
///
/// # Errors
/// Usage error if it is not there; data error if it is no tokenizer of CLIP.
pub fn open(named: &str, length: usize) -> Result<Tokenizer> {
    if named == BUNDLED {
        let unpacked = TempDir::with_prefix("stablerep-").map_err(Error::io("create", std::env::temp_dir()))?;
        return Tokenizer::open(&assets::unpack_model(unpacked.path())?.join("tokenizer"), length);
    }
    let path = Path::new(named);
    if let Err(what) = paths::there(path, "a tokenizer's folder or file") {
        bail!(Usage, "--tokenizer {named}: {what}");
    }
    Tokenizer::open(path, length)
}
