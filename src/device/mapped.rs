//! Read-only memory maps of files.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use super::human_bytes;
use crate::error::{Error, Result};

/// A whole file, mapped read-only: pages are read when touched and shared between processes.
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps `path`. An empty file gives an empty slice. The file must not shrink while it is mapped
    /// (this program only ever replaces files by renaming, which leaves a map intact).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Asked before it is opened, because opening a pipe waits for a writer.
        let info = fs::metadata(path).map_err(Error::io("open", path))?;
        if !info.is_file() {
            let what = if info.is_dir() { "a folder" } else { "a pipe or device" };
            return Err(Error::Data(format!("{}: is {what}, expected a file", path.display())));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        if info.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is read-only; the one hazard, another process truncating the file, is stated above.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| match e.kind() {
            ErrorKind::OutOfMemory => Error::Device(format!(
                "cannot map {} ({}): {e}; the address space of this process is limited (ulimit -v): raise the limit",
                path.display(),
                human_bytes(info.len())
            )),
            _ => Error::io("map", path)(e),
        })?;
        Ok(Self(Some(map)))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
