//! An output folder belongs to one configuration: rerunning the same one resumes, another one is refused with the difference.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::atomic::{create_dir, write_atomic};
use crate::config::{FlagNames, differences};
use crate::error::{Error, Result};

/// Held while the shared files of a folder are written; dropping it lets the next process in.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Waits until no other process writes the shared files of `folder`. A killed process holds nothing.
pub fn lock_folder(folder: &Path) -> Result<FolderLock> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    file.lock().map_err(Error::io("lock", &path))?;
    Ok(FolderLock { _file: file })
}

/// Creates `folder` if needed and takes it for one process that writes there from beginning to end.
///
/// # Errors
/// Usage error if another process holds it.
pub fn occupy_folder(folder: &Path) -> Result<FolderLock> {
    create_dir(folder)?;
    let path = folder.join(".running");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::Usage(format!(
            "{}: another process is writing into this folder; wait for it to end, or choose another --output",
            folder.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
    }
}

/// Creates `folder` if needed and records `config` in it as `file_name`. If it already holds another configuration, fails and
/// lists every setting that differs by its flag ([`differences`]). Ranks of one run may call this at the same time.
pub fn claim_folder<T>(folder: &Path, file_name: &str, config: &T, flags: &FlagNames) -> Result<()>
where
    T: Serialize + DeserializeOwned,
{
    create_dir(folder)?;
    let _lock = lock_folder(folder)?;
    let path = folder.join(file_name);
    let failed = |e: serde_json::Error| Error::Failed(format!("{}: {e}", path.display()));
    match fs::read(&path) {
        Ok(bytes) => {
            let found: Value = serde_json::from_slice(&bytes).map_err(|e| {
                Error::Data(format!(
                    "{}: not the JSON this program writes ({e}); choose another output folder",
                    path.display()
                ))
            })?;
            let differences = differences(&found, config, flags).map_err(failed)?;
            if differences.is_empty() {
                return Ok(());
            }
            Err(Error::Usage(format!(
                "{} was started with another configuration:\n{}\nuse the old settings to resume, or another output folder",
                folder.display(),
                differences.join("\n")
            )))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = serde_json::to_string_pretty(config).map_err(failed)?;
            write_atomic(&path, (text + "\n").as_bytes())
        }
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}
