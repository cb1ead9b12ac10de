//! From what the user names to a list of tar files.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::foreign;
use super::sizes::read_sizes;
use crate::bail;
use crate::error::{Error, Result};

/// Most files a pattern may stand for.
const MOST: u64 = 10_000_000;

/// What several paths name together.
#[derive(Debug)]
pub(super) struct Located {
    /// Every tar once.
    pub files: Vec<PathBuf>,
    /// Which of the paths named each.
    pub named_by: Vec<usize>,
    /// Samples of each file by the `sizes.json` of its folder.
    pub expected: BTreeMap<PathBuf, usize>,
    /// What a user should know of the choice.
    pub notes: Vec<String>,
}

/// The tar files that `paths` name; one that is named twice, under whatever name, comes once.
///
/// # Errors
/// As [`locate`].
pub(super) fn locate_all(paths: &[PathBuf]) -> Result<Located> {
    let mut all = Located { files: Vec::new(), named_by: Vec::new(), expected: BTreeMap::new(), notes: Vec::new() };
    let mut known: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut twice: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        for file in locate(path)? {
            let info = fs::metadata(&file).map_err(Error::io("read", &file))?;
            match known.get(&(info.dev(), info.ino())) {
                Some(same) => twice.push((file, same.clone())),
                None => {
                    known.insert((info.dev(), info.ino()), file.clone());
                    all.files.push(file);
                    all.named_by.push(number);
                }
            }
        }
        if path.is_dir() {
            for (name, samples) in read_sizes(path)?.into_iter().flatten() {
                let file = path.join(name);
                if !twice.iter().any(|(second, _)| *second == file) {
                    all.expected.insert(file, samples);
                }
            }
        }
    }
    if let Some((second, first)) = twice.first() {
        let names = if second == first {
            format!("{}", first.display())
        } else {
            format!("{} as {}", first.display(), second.display())
        };
        all.notes.push(format!("{} file(s) are named twice, e.g. {names}; each is used once", twice.len()));
    }
    Ok(all)
}

/// The tar files that `path` names: every `*.tar` of a folder in the order of their names, one file, or a pattern
/// such as `data/{00000..00012}.tar`.
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
            if text.contains("://") || text.starts_with("pipe:") {
                bail!(Data, "{text}: shards are read from files; fetch them first");
            }
            bail!(
                Data,
                "{text}: no such file or folder; expected a folder of *.tar shards, a tar, or a pattern like \
                 dir/{{00000..00012}}.tar"
            );
        }
        return Ok(vec![path.to_path_buf()]);
    }
    let (mut files, mut compressed) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if name.ends_with(".tar") {
            files.push(entry.path());
        } else if foreign::is_compressed_name(&entry.path()) {
            compressed.push(entry.path());
        }
    }
    if files.is_empty() {
        bail!(Data, "{text}: no *.tar in this folder; {}", foreign::of_folder(path));
    }
    // Half of the data would be left out without a word.
    if let Some(first) = compressed.iter().min() {
        bail!(
            Data,
            "{}: {} of the shards in this folder are compressed, which is not read; unpack them once (`gunzip`), or \
             name the tars one by one",
            first.display(),
            compressed.len()
        );
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
    // No number that is meant is longer than the largest one.
    if first > last || last - first >= MOST || low.len() > 20 {
        return Err(wrong());
    }
    let rest = expand(&text[close + 1..])?;
    if (last - first + 1).saturating_mul(rest.len() as u64) > MOST {
        bail!(Usage, "{text}: stands for more than {MOST} files; name fewer, or their folder");
    }
    let width = low.len();
    Ok((first..=last)
        .flat_map(|i| rest.iter().map(move |tail| (i, tail)))
        .map(|(i, tail)| format!("{}{i:0width$}{tail}", &text[..open]))
        .collect())
}
