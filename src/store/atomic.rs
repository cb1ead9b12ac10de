//! Temporary name, fsync, rename: a crash at any instant leaves the old file or the new one, never a part.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::lock::open_locked;
use crate::bail;
use crate::error::{Error, Result};

/// A file being written under `.NAME.partial` in its final folder; [`AtomicFile::commit`] gives it its name. Dropped
/// without commit, it removes the temporary file. One writer per name, which holds a lock on it: a second one is
/// refused, and a leftover of a killed one, which nobody holds, is written over.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Starts writing what will become `path`. The folder must exist.
    ///
    /// # Errors
    /// Usage error while another process writes the same file.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let Some(name) = path.file_name() else {
            return Err(Error::Usage(format!("{}: expected a file name", path.display())));
        };
        let temporary = path.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let file = match open_locked(&temporary, false) {
            // On a file system without locks nothing tells of another writer.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::Unsupported => {
                File::create(&temporary).map_err(Error::io("create", &temporary))?
            }
            locked => match locked? {
                Some(file) => file,
                None => bail!(Usage, "{}: another process is writing this file; wait for it to end", path.display()),
            },
        };
        file.set_len(0).map_err(Error::io("write", &temporary))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), temporary, path, committed: false })
    }

    /// Flushes, fsyncs, renames, and fsyncs the folder.
    pub fn commit(mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        self.file.get_ref().sync_all().map_err(Error::io("sync", &self.path))?;
        fs::rename(&self.temporary, &self.path).map_err(Error::io("rename to", &self.path))?;
        self.committed = true;
        sync_parent(&self.path)
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here; the next run overwrites the leftover.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes `bytes` to `path` atomically and durably.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(Error::io("write", file.path()))?;
    file.commit()
}

/// Removes the file at `path`, if there is one.
///
/// # Errors
/// `Io` when it cannot be.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes what killed runs left of unfinished files in `folder`. Only for who knows that nobody writes there.
pub fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.ends_with(".partial") {
            // What cannot be removed stays: it is in nobody's way.
            let _ = fs::remove_file(&path);
        }
    }
}

/// `mkdir -p` with the folder named in the error.
///
/// # Errors
/// Usage error for a name that [`check_folder`] refuses.
pub fn create_dir(path: impl AsRef<Path>) -> Result<()> {
    check_folder(path.as_ref())?;
    fs::create_dir_all(&path).map_err(Error::io("create folder", path))
}

/// Refuses a file where a folder is to be written.
pub fn check_folder(path: &Path) -> Result<()> {
    if path.is_file() {
        bail!(Usage, "{}: is a file; expected a folder, or a name that is free", path.display());
    }
    Ok(())
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = File::open(parent).map_err(Error::io("open folder", parent))?;
    folder.sync_all().map_err(Error::io("sync folder", parent))
}
