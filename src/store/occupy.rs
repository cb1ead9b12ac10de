//! Who writes into a folder: one process, or the ranks of one run, each once.

use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::{create_dir, remove_leftovers};
use super::lock::Lock;
use crate::bail;
use crate::error::{Error, Result};

/// Waits until no other process writes the shared files of `folder`; dropping the lock lets the next one in.
pub fn lock_folder(folder: &Path) -> Result<Lock> {
    Lock::take(&folder.join(".lock"))
}

/// A process's place in a folder, from the beginning of its run to the end.
#[derive(Debug)]
pub struct Occupied {
    _lock: Lock,
    /// Whether no other rank was there when this one came.
    pub alone: bool,
}

/// Creates `folder` if needed and takes it for process `rank` of `of` that write there together. The first one there
/// removes what killed runs left of unfinished files.
///
/// # Errors
/// Usage error if another process holds this rank, or one of a run of another number of processes is there.
pub fn occupy_folder(folder: &Path, rank: usize, of: usize) -> Result<Occupied> {
    create_dir(folder)?;
    occupy_locked(folder, &lock_folder(folder)?, rank, of)
}

/// The same for who holds the folder's lock already.
pub fn occupy_locked(folder: &Path, _lock: &Lock, rank: usize, of: usize) -> Result<Occupied> {
    let own = name(rank, of);
    let mut alone = true;
    for path in places(folder)? {
        let there = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if there == own || Lock::try_take(&path)?.is_some() {
            continue;
        }
        alone = false;
        if !there.ends_with(&format!("-of-{of}")) {
            bail!(
                Usage,
                "{}: another process is writing into this folder, of a run of another --world-size ({}; this one is rank {rank} of \
                 {of}); wait for it to end, or choose another --output",
                folder.display(),
                there.trim_start_matches(PREFIX).trim_start_matches('-').replace('-', " ")
            );
        }
    }
    let Some(lock) = Lock::try_take(&folder.join(&own))? else {
        bail!(
            Usage,
            "{}: another process is writing into this folder{}; wait for it to end, or choose another --output",
            folder.display(),
            if of > 1 { format!(" as rank {rank} of {of}") } else { String::new() }
        );
    };
    if alone {
        remove_leftovers(folder);
    }
    Ok(Occupied { _lock: lock, alone })
}

/// How the names of the lock files begin; earlier versions had one of just this name.
const PREFIX: &str = ".running";

fn name(rank: usize, of: usize) -> String {
    format!("{PREFIX}-rank-{rank}-of-{of}")
}

/// The places that were taken in `folder`, by who may still live.
fn places(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
