//! A file that one process holds as long as it lives: whoever is killed holds nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Holds a lock file until it is dropped, which removes the file.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock file `path`, or `None` while another process holds it.
    pub(super) fn try_take(path: &Path) -> Result<Option<Self>> {
        Ok(open_locked(path, false)?.map(|file| Self { _file: file, path: path.to_path_buf() }))
    }

    /// Takes the lock file `path` as soon as no other process holds it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        match open_locked(path, true)? {
            Some(file) => Ok(Self { _file: file, path: path.to_path_buf() }),
            None => Err(Error::Failed(format!("{}: could not be locked", path.display()))),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still held here: who has it open already finds that the name is gone or another file's, and opens it anew.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens `path`, made if need be and never emptied, and locks it; `None` if another process has it and `wait` is off.
pub(super) fn open_locked(path: &Path, wait: bool) -> Result<Option<File>> {
    loop {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(Error::io("create", path))?;
        let locked = if wait { file.lock().map_err(TryLockError::Error) } else { file.try_lock() };
        match locked {
            Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
            // Its owner renamed or removed it between the two calls.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", path)(e)),
        }
    }
}

fn is_at(file: &File, path: &Path) -> Result<bool> {
    let mine = file.metadata().map_err(Error::io("read", path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (mine.dev(), mine.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}
