//! Sentences that names of classes are put into.

use std::fs;
use std::path::Path;

use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};

/// Those that SLIP, LaCLIP and StableRep+ are scored on ImageNet with.
const SEVEN: [&str; 7] = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
];

/// What `--templates` names: `7`, or a file with a sentence a line or a JSON list of them, each with `{}` where the
/// name goes.
///
/// # Errors
/// `Data` for a file that holds none, `Io` when it cannot be read.
pub fn templates(named: &str) -> Result<Vec<String>> {
    if named == "7" {
        return Ok(SEVEN.map(str::to_owned).to_vec());
    }
    let path = Path::new(named);
    if !path.is_file() {
        bail!(Usage, "--templates {named}: expected 7, or a file with a sentence a line, as in 'a photo of a {{}}.'");
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let list: Vec<String> = if path.extension().is_some_and(|extension| extension == "json") {
        json::parse(&bytes)
            .map_err(|e| Error::Data(format!("--templates {named}: {e}; expected a list of sentences")))?
    } else {
        let Ok(text) = String::from_utf8(bytes) else {
            bail!(Data, "--templates {named}: its sentences are not UTF-8; save it as UTF-8");
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    if list.is_empty() {
        bail!(Data, "--templates {named}: no sentence in it");
    }
    Ok(list)
}
