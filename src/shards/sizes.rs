//! `sizes.json`: how many samples each shard of a folder holds (img2dataset and open_clip read the same file).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::store::{self, write_atomic};

/// Its name.
pub const SIZES_FILE: &str = "sizes.json";

/// Writes `sizes.json` into `folder`: file name → samples, sorted by name.
pub fn write_sizes(folder: &Path, sizes: &BTreeMap<String, usize>) -> Result<()> {
    let text = serde_json::to_string_pretty(sizes).map_err(|e| Error::Failed(format!("{SIZES_FILE}: {e}")))?;
    write_atomic(folder.join(SIZES_FILE), (text + "\n").as_bytes())
}

/// Reads `sizes.json` of `folder`; `None` when there is none.
pub fn read_sizes(folder: &Path) -> Result<Option<BTreeMap<String, usize>>> {
    let path = folder.join(SIZES_FILE);
    match store::read(&path, store::RECORD) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::Data(format!(
                "{}: expected an object of shard names and sample counts ({e}); delete or repair it",
                path.display()
            ))
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}
