//! Reading at a place of one of very many files, of which only some are open at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::scan::Stamp;
use crate::error::{Error, Result};

/// Files kept open, well below the 1024 that a process may usually have.
const KEPT: usize = 256;

/// The files that were read last.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By number of the file: the file, and when it was last used.
    files: HashMap<u32, (Arc<File>, u64)>,
    uses: u64,
}

impl OpenFiles {
    /// `length` bytes from `start` of file `number`, which lies at `path` and looked like `stamp` when it was indexed.
    ///
    /// # Errors
    /// If it cannot be read, or is another file now.
    pub fn read(&self, number: u32, path: &Path, stamp: Stamp, start: u64, length: u64) -> Result<Vec<u8>> {
        let file = self.file(number, path, stamp)?;
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => changed(path),
            _ => Error::io("read", path)(e),
        })?;
        Ok(bytes)
    }

    fn file(&self, number: u32, path: &Path, stamp: Stamp) -> Result<Arc<File>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        if let Some((file, used)) = kept.files.get_mut(&number) {
            *used = now;
            return Ok(Arc::clone(file));
        }
        if kept.files.len() >= KEPT {
            let oldest = kept.files.iter().min_by_key(|(_, (_, used))| *used).map(|(&number, _)| number);
            oldest.and_then(|number| kept.files.remove(&number));
        }
        let file = match File::open(path) {
            // The process may have fewer files than are kept: let them go and try once more.
            Err(_) if !kept.files.is_empty() => {
                kept.files.clear();
                File::open(path)
            }
            file => file,
        };
        let file = file.map_err(Error::io("open", path))?;
        if Stamp::of(&file, path)? != stamp {
            return Err(changed(path));
        }
        let file = Arc::new(file);
        kept.files.insert(number, (Arc::clone(&file), now));
        Ok(file)
    }
}

fn changed(path: &Path) -> Error {
    Error::Data(format!(
        "{}: changed while it was in use; shards must stay as they are until the command ends: run it again",
        path.display()
    ))
}
