//! The folder of things that can be made again: `STABLEREP_CACHE`, else `stablerep` under `XDG_CACHE_HOME` or `~/.cache`.

use std::env;
use std::path::{Path, PathBuf};

use crate::device::MappedFile;
use crate::say;
use crate::store::{create_dir, write_atomic};

/// Files by name. Nothing depends on them but time, so what cannot be read is absent and what cannot be written is left out.
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

    /// The file `name`, if it is there.
    pub fn get(&self, name: &str) -> Option<MappedFile> {
        MappedFile::open(self.0.as_ref()?.join(name)).ok()
    }

    /// Keeps `bytes` as `name`.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let Some(folder) = &self.0 else { return };
        if let Err(error) = create_dir(folder).and_then(|()| write_atomic(folder.join(name), bytes)) {
            say!("not kept for the next start: {error}");
        }
    }
}
