//! Whether a tar was written to its end.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};

/// Two blocks of zeros end a tar.
const MARK: usize = 1024;
/// A block: the last one before the mark holds the end of a member.
const BLOCK: usize = 512;

/// How a tar ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is no such file.
    Absent,
    /// With the mark alone, as [`super::ShardWriter`] ends it.
    Whole,
    /// With more zeros than the mark: what other writers fill up with, or a hole in which members were.
    Padded,
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
    if length < MARK as u64 || !length.is_multiple_of(BLOCK as u64) {
        return Ok(Ending::Broken("is cut short"));
    }
    let mut last = [0; BLOCK + MARK];
    let last = &mut last[..length.min((BLOCK + MARK) as u64) as usize];
    file.seek(SeekFrom::End(-(last.len() as i64))).map_err(Error::io("read", path))?;
    file.read_exact(last).map_err(Error::io("read", path))?;
    Ok(match last.iter().rev().take_while(|&&byte| byte == 0).count() {
        zeros if zeros == last.len() => Ending::Padded,
        zeros if zeros >= MARK => Ending::Whole,
        _ => Ending::Broken("ends without the mark of a whole tar"),
    })
}
