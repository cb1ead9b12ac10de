//! From what the user names to a list of tar files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, Result};

/// Most files a pattern may stand for.
const MOST: u64 = 10_000_000;

/// The tar files that `path` names: every `*.tar` of a folder in the order of their names, one file, or a pattern such as
/// `data/{00000..00012}.tar`.
pub fn locate(path: &Path) -> Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    if !path.exists() && text.contains('{') {
        let files: Vec<PathBuf> = expand(&text)?.into_iter().map(PathBuf::from).collect();
        return match files.iter().find(|file| !file.is_file()) {
            Some(missing) => Err(Error::Data(format!("{text}: no such file: {}", missing.display()))),
            None => Ok(files),
        };
    }
    if !path.is_dir() {
        if !path.exists() {
            bail!(
                Data,
                "{text}: no such file or folder; expected a folder of *.tar shards, a tar, or a pattern like dir/{{00000..00012}}.tar"
            );
        }
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".tar") && !name.starts_with('.') {
            files.push(entry.path());
        }
    }
    if files.is_empty() {
        bail!(Data, "{text}: no *.tar in this folder; `stablerep generate --output {text}` writes them");
    }
    files.sort();
    Ok(files)
}

/// Replaces the first `{a..b}` by every number from a to b, padded to the width of a, and so on for the rest.
fn expand(text: &str) -> Result<Vec<String>> {
    let Some(open) = text.find('{') else { return Ok(vec![text.to_string()]) };
    let wrong = || Error::Usage(format!("{text}: expected a range of numbers in the braces, such as {{00000..00012}}"));
    let close = open + text[open..].find('}').ok_or_else(wrong)?;
    let (low, high) = text[open + 1..close].split_once("..").ok_or_else(wrong)?;
    let (first, last): (u64, u64) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
    if first > last || last - first >= MOST {
        return Err(wrong());
    }
    let rest = expand(&text[close + 1..])?;
    let width = low.len();
    Ok((first..=last)
        .flat_map(|i| rest.iter().map(move |tail| (i, tail)))
        .map(|(i, tail)| format!("{}{i:0width$}{tail}", &text[..open]))
        .collect())
}
