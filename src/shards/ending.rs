//! Whether a tar was written to its end.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};

/// Two blocks of zeros end a tar.
const MARK: usize = 1024;

/// How a tar ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is no such file.
    Absent,
    /// With the mark.
    Whole,
    /// Without it; why.
    Broken(&'static str),
}

/// Looks at the last bytes of the tar `path`.
pub fn ending(path: &Path) -> Result<Ending> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Ending::Absent),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    if length == 0 {
        return Ok(Ending::Broken("is empty"));
    }
    if length < MARK as u64 || !length.is_multiple_of(512) {
        return Ok(Ending::Broken("is cut short"));
    }
    let mut last = [0; MARK];
    file.seek(SeekFrom::End(-(MARK as i64))).map_err(Error::io("read", path))?;
    file.read_exact(&mut last).map_err(Error::io("read", path))?;
    Ok(if last == [0; MARK] { Ending::Whole } else { Ending::Broken("ends without the mark of a whole tar") })
}
