//! Whole files of bounded length.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Bytes that no settings, record or table of names reaches.
pub const RECORD: u64 = 256 << 20;

/// The bytes of a file or a pipe, at most `most`. A device, which may have no end, or what is far longer than a file of
/// its kind, is refused before it fills the memory.
///
/// # Errors
/// The system's, and invalid data for a longer file.
pub fn read(path: impl AsRef<Path>, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let info = file.metadata()?;
    if info.file_type().is_char_device() || info.file_type().is_block_device() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is a device, expected a file"));
    }
    let expected = info.len().min(most);
    let mut bytes = Vec::new();
    // Refused memory is an error here, where the heap would end the process.
    bytes.try_reserve_exact(usize::try_from(expected).unwrap_or(usize::MAX))?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_end_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345").unwrap();
        assert_eq!(read(file.path(), 5).unwrap(), b"12345");
        for (path, most, why) in [(file.path(), 4, "longer than 4 bytes"), (Path::new("/dev/zero"), 4, "a device")] {
            let error = read(path, most).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidData && error.to_string().contains(why), "{error}");
        }
    }
}
