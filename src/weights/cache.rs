//! The folder of things that can be made again: `STABLEREP_CACHE`, else `stablerep` under `XDG_CACHE_HOME` or
//! `~/.cache`.

use std::env;
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::device::MappedFile;
use crate::error::Error;
use crate::say;
use crate::store::{AtomicFile, create_dir};

/// Bytes of the checksum (CRC-32C) at the end of a file.
const SUM: usize = 4;

/// Files by name. Nothing depends on them but time, so what cannot be read is absent and what cannot be written is left
/// out.
#[derive(Clone, Debug)]
pub struct Cache(Option<PathBuf>);

impl Cache {
    /// The user's; without one (`STABLEREP_CACHE=off`, or no home) everything is absent.
    pub fn open() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self(match set("STABLEREP_CACHE") {
            Some(folder) if folder == Path::new("off") => None,
            Some(folder) => Some(folder),
            None => {
                // A home that is not there, as system users have one, is not made.
                let home = || set("HOME").filter(|home| home.is_dir()).map(|home| home.join(".cache"));
                set("XDG_CACHE_HOME").or_else(home).map(|base| base.join("stablerep"))
            }
        })
    }

    /// Its folder, where there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// The file `name`, if it is there and holds what was put there.
    pub fn get(&self, name: &str) -> Option<Kept> {
        let kept = Kept(MappedFile::open(self.0.as_ref()?.join(name)).ok()?);
        let sum = kept.0.get(kept.0.len().checked_sub(SUM)?..)?;
        (crc32c::crc32c(&kept).to_le_bytes() == sum).then_some(kept)
    }

    /// Keeps `bytes` as `name`.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let Some(folder) = &self.0 else { return };
        let path = folder.join(name);
        let written = create_dir(folder).and_then(|()| {
            let mut file = AtomicFile::create(&path)?;
            let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io("write", &path));
            write(bytes)?;
            write(&crc32c::crc32c(bytes).to_le_bytes())?;
            file.commit()
        });
        if let Err(error) = written {
            say!("not kept for the next start: {error}");
        }
    }
}

/// A kept file without its checksum.
#[derive(Debug)]
pub struct Kept(MappedFile);

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0[..self.0.len().saturating_sub(SUM)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_damaged_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = (Cache(Some(folder.path().join("kept"))), folder.path().join("kept/x"));
        cache.put("x", b"weights");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, damaged).unwrap();
            assert!(cache.get("x").is_none(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(cache.get("x").is_none(), "{at} bytes");
        }
        std::fs::write(&path, whole).unwrap();
        assert_eq!(&*cache.get("x").unwrap(), b"weights");
    }
}
