//! What lies at a path.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, Result};
use crate::eval::place::REPORT;

/// How deep folders are looked through.
const DEPTH: usize = 4;

/// What the page tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Shards,
    Run,
    Evaluation,
}

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Run => "training run",
            Self::Evaluation => "evaluation",
        }
    }
}

/// One thing that the page tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub path: PathBuf,
    pub kind: Kind,
}

/// What is called after a path: its last part.
pub fn name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Everything at `paths` or in the folders below: shards (`*.tar`), runs (`metrics.jsonl`), evaluations
/// (`report.json`). And what is to be said of paths where nothing of that lies, if it lies at others.
///
/// # Errors
/// `Data` when nothing of that lies at any path; `Io` when the system refuses.
pub fn find(paths: &[PathBuf]) -> Result<(Vec<Subject>, Vec<String>)> {
    let (mut found, mut empty): (Vec<Subject>, Vec<String>) = (Vec::new(), Vec::new());
    for path in paths {
        let mut here = Vec::new();
        look(path, DEPTH, &mut here)?;
        if here.is_empty() {
            empty.push(format!(
                "{}: neither shards (*.tar) nor a training run (metrics.jsonl) nor an evaluation (report.json), here or in \
                 a folder below",
                path.display()
            ));
        }
        for subject in here {
            if !found.contains(&subject) {
                found.push(subject);
            }
        }
    }
    match empty.first() {
        Some(first) if found.is_empty() => bail!(Data, "{first}"),
        _ => Ok((found, empty)),
    }
}

fn look(path: &Path, depth: usize, out: &mut Vec<Subject>) -> Result<()> {
    let is_tar = |path: &Path| path.extension().is_some_and(|extension| extension == "tar");
    let mut add = |path: &Path, kind| out.push(Subject { path: path.to_owned(), kind });
    if path.is_file() {
        match path.file_name().and_then(|name| name.to_str()) {
            _ if is_tar(path) => add(path, Kind::Shards),
            Some(REPORT) => add(path.parent().unwrap_or(Path::new(".")), Kind::Evaluation),
            Some("metrics.jsonl") => add(path.parent().unwrap_or(Path::new(".")), Kind::Run),
            _ => {}
        }
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(Error::io("read folder", path))?;
    let mut entries: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(Error::io("read folder", path))?;
    entries.sort();
    if entries.iter().any(|entry| entry.is_file() && is_tar(entry)) {
        add(path, Kind::Shards);
    }
    if path.join("metrics.jsonl").is_file() {
        add(path, Kind::Run);
    }
    if path.join(REPORT).is_file() {
        add(path, Kind::Evaluation);
    }
    if depth > 0 {
        let folders = entries.iter().filter(|entry| entry.is_dir() && !entry.is_symlink());
        folders.into_iter().try_for_each(|folder| look(folder, depth - 1, out))?;
    }
    Ok(())
}
