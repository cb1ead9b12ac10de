//! Finding the members of a mapped tar file, and the place from which it is damaged.

use std::io::Cursor;
use std::ops::Range;

use tar::{Archive, EntryType};

const BLOCK: usize = 512;

/// A regular file inside the tar.
#[derive(Debug)]
pub(super) struct Found {
    pub name: String,
    pub bytes: Range<usize>,
}

/// The place from which a tar cannot be read.
#[derive(Debug)]
pub(super) struct Break {
    /// Bytes from the start of the file.
    pub offset: usize,
    pub what: String,
}

/// Lists the regular files of a tar. What comes after a break is lost; what comes before is whole.
pub(super) fn scan(bytes: &[u8]) -> (Vec<Found>, Option<Break>) {
    let mut found = Vec::new();
    let mut next = 0;
    let broken = |offset, what: String| Some(Break { offset, what });
    let mut archive = Archive::new(Cursor::new(bytes));
    let entries = match archive.entries_with_seek() {
        Ok(entries) => entries,
        Err(e) => return (found, broken(0, e.to_string())),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                let left = bytes.len().saturating_sub(next);
                let what = if left < BLOCK {
                    format!("cut short inside a header ({left} bytes of it)")
                } else {
                    e.to_string()
                };
                return (found, broken(next, what));
            }
        };
        let Ok(size) = usize::try_from(entry.size()) else {
            return (found, broken(next, format!("a member of {} bytes", entry.size())));
        };
        let start = entry.raw_file_position() as usize;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match start.checked_add(size) {
            Some(end) if end <= bytes.len() => {
                if entry.header().entry_type() == EntryType::Regular {
                    found.push(Found { name, bytes: start..end });
                }
                next = end.div_ceil(BLOCK) * BLOCK;
            }
            _ => {
                let there = bytes.len().saturating_sub(start);
                return (found, broken(next, format!("cut short inside {name} ({there} of {size} bytes)")));
            }
        }
    }
    let end = bytes.get(next..next + BLOCK);
    if end.is_none_or(|block| block.iter().any(|&b| b != 0)) {
        let what =
            if bytes.is_empty() { "the file is empty" } else { "cut short: the end marker of the tar is missing" };
        return (found, broken(next.min(bytes.len()), what.into()));
    }
    (found, None)
}
