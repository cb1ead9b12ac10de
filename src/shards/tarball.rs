//! Walking the headers of a tar file: where its members lie, and what in it is damaged.
//!
//! Pictures are skipped over: of a member of more than a few blocks only its beginning and its end are read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tar::{EntryType, Header, PaxExtensions};

use super::foreign;

const BLOCK: u64 = 512;
/// Zeros at the end of a tar: two blocks, and what fills its last record of 20 blocks.
const MOST_ZEROS: u64 = 2 * BLOCK + 20 * BLOCK;
/// Bytes read at once: of one sample of `generate` everything between two pictures.
const WINDOW: usize = 8192;
/// Bytes of a member that its check covers at its beginning and at its end.
const HEAD: u64 = 1024;
const TAIL: u64 = 512;
/// Longest name and longest list of extensions that a header may have.
const MOST: u64 = 1 << 20;

/// A regular file inside the tar.
#[derive(Debug)]
pub(super) struct Found {
    pub name: String,
    /// Bytes from the start of the tar; a multiple of 512.
    pub start: u64,
    pub length: u64,
    /// CRC-32C of its first 1024 and last 512 bytes.
    pub check: u32,
}

/// Something in a tar that cannot be used.
#[derive(Debug)]
pub(super) struct Break {
    /// Bytes from the start of the file.
    pub offset: u64,
    pub what: String,
    pub loss: Loss,
}

/// What is lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// One member.
    Member,
    /// Everything from there on, and perhaps members of the sample before.
    Rest,
    /// What follows a whole archive.
    Appended,
}

/// The members of a tar in file order. After a break that loses more than one member, nothing more comes.
pub(super) struct Walk<'a> {
    window: Window<'a>,
    next: u64,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// `size` is that of the file, bytes.
    pub fn new(file: &'a File, size: u64) -> Self {
        Self { window: Window { file, size, start: 0, bytes: Vec::new() }, next: 0, ended: false }
    }

    /// The next member or break; `None` at the end mark.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn step(&mut self) -> io::Result<Option<Result<Found, Break>>> {
        if self.ended {
            return Ok(None);
        }
        let first = self.next;
        let step = self.member()?;
        let lost = match &step {
            None | Some(Ok(_)) => None,
            Some(Err(broken)) => Some(broken.loss),
        };
        self.ended = step.is_none() || lost.is_some_and(|loss| loss != Loss::Member);
        Ok(match step {
            Some(Err(broken)) if broken.loss == Loss::Rest && first > 0 && self.window.size > broken.offset => {
                let rest = self.window.size - broken.offset;
                let what = format!("{}; the {rest} bytes from there on are not used", broken.what);
                Some(Err(Break { what, ..broken }))
            }
            other => other,
        })
    }

    fn member(&mut self) -> io::Result<Option<Result<Found, Break>>> {
        let mut long = Long::default();
        loop {
            let at = self.next;
            let size = self.window.size;
            let broken = |what: String| Ok(Some(Err(Break { offset: at.min(size), what, loss: Loss::Rest })));
            let left = size.saturating_sub(at);
            if left < BLOCK {
                let foreign = self.foreign(at)?;
                return broken(foreign.unwrap_or_else(|| match (size, left) {
                    (0, _) => "the file is empty".into(),
                    (_, 0) => "cut short: the end marker of the tar is missing".into(),
                    _ => format!("cut short inside a header ({left} bytes of it)"),
                }));
            }
            let block = self.window.get(at, BLOCK)?;
            if block.iter().all(|&byte| byte == 0) {
                return Ok(match self.window.first_not_zero(at)? {
                    Some(offset) => {
                        let what = format!(
                            "{} bytes follow the end marker of the tar and are not used; was another tar appended? \
                             Make them two files",
                            size - offset
                        );
                        Some(Err(Break { offset, what, loss: Loss::Appended }))
                    }
                    // A file that was given its length before its bytes came.
                    None if left > MOST_ZEROS => Some(Err(Break {
                        offset: at,
                        what: format!(
                            "{left} zero bytes up to its end, where the end of a whole tar has at most {MOST_ZEROS}: were \
                             all its bytes copied?"
                        ),
                        loss: Loss::Rest,
                    })),
                    None => None,
                });
            }
            let header = Header::from_byte_slice(block).clone();
            if !checked(&header) {
                let foreign = self.foreign(at)?;
                return broken(
                    foreign.unwrap_or_else(|| "no header of a tar member is there (its checksum is wrong)".into()),
                );
            }
            let kind = header.entry_type();
            let about_next = matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader);
            let mut said = if about_next { Long::default() } else { std::mem::take(&mut long) };
            let length = match said.size.map_or_else(|| header.entry_size(), Ok) {
                Ok(length) => length,
                Err(e) => return broken(format!("the size of a member cannot be read ({e})")),
            };
            let name = said.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
            let name = String::from_utf8_lossy(&name).into_owned();
            let mut start = at + BLOCK;
            if kind == EntryType::GNUSparse {
                // Its map may go on in blocks of its own.
                let mut more = header.as_gnu().is_some_and(|gnu| gnu.is_extended());
                while more && start + BLOCK <= size {
                    more = self.window.get(start, BLOCK)?[504] != 0;
                    start += BLOCK;
                }
            }
            let Some(end) = start.checked_add(length).filter(|&end| end <= size) else {
                let there = size.saturating_sub(start);
                return broken(format!("cut short inside {name} ({there} of {length} bytes)"));
            };
            self.next = end.div_ceil(BLOCK) * BLOCK;
            let skipped = |why: &str| {
                let what = format!("{name} is {why}");
                Ok(Some(Err(Break { offset: at, what, loss: Loss::Member })))
            };
            match kind {
                EntryType::GNULongName | EntryType::XHeader if length > MOST => {
                    return broken(format!("a name or extension of {length} bytes"));
                }
                EntryType::GNULongName => {
                    let mut name = self.window.get(start, length)?.to_vec();
                    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
                    long.name = Some(name);
                }
                EntryType::XHeader => {
                    let bytes = self.window.get(start, length)?;
                    if let Err(why) = long.read(bytes) {
                        return broken(format!("an extended header that cannot be read ({why})"));
                    }
                }
                EntryType::GNULongLink | EntryType::XGlobalHeader | EntryType::Directory => {}
                EntryType::Fifo | EntryType::Char | EntryType::Block => {}
                EntryType::Symlink => {
                    return skipped("a symbolic link, not the file; pack with `tar --dereference` (-h)");
                }
                EntryType::Link => return skipped("a hard link, not the file; pack with `tar --hard-dereference`"),
                EntryType::GNUSparse => return skipped("a sparse file; pack without `--sparse` (-S)"),
                EntryType::Regular | EntryType::Continuous if said.sparse => {
                    return skipped("a sparse file; pack without `--sparse` (-S)");
                }
                EntryType::Regular | EntryType::Continuous if name.ends_with('/') => {}
                EntryType::Regular | EntryType::Continuous => {
                    let check = self.check(start, length)?;
                    return Ok(Some(Ok(Found { name, start, length, check })));
                }
                other => return skipped(&format!("of the unknown kind {:?}", char::from(other.as_byte()))),
            }
        }
    }

    /// What a file without a first header is, where its first bytes tell.
    fn foreign(&mut self, at: u64) -> io::Result<Option<String>> {
        if at > 0 {
            return Ok(None);
        }
        let kind = foreign::of_bytes(self.window.get(0, self.window.size.min(BLOCK))?);
        Ok(kind.map(|kind| format!("not a plain tar: {kind}")))
    }

    fn check(&mut self, start: u64, length: u64) -> io::Result<u32> {
        let head = length.min(HEAD);
        let check = crc32c::crc32c(self.window.get(start, head)?);
        let tail = (length - head).min(TAIL);
        Ok(crc32c::crc32c_append(check, self.window.get(start + length - tail, tail)?))
    }
}

/// What members of their own say about the one that follows them.
#[derive(Default)]
struct Long {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Long {
    /// Takes up the records of a pax header.
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        for record in PaxExtensions::new(bytes) {
            let record = record.map_err(|e| e.to_string())?;
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let size = record.value().ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or("its size is no number")?);
                }
                key => self.sparse |= key.starts_with(b"GNU.sparse"),
            }
        }
        Ok(())
    }
}

/// Whether the sum over the header is the one it states, as bytes or (old writers) as signed bytes.
fn checked(header: &Header) -> bool {
    let sum = |value: fn(u8) -> i64| -> i64 {
        let bytes = header.as_bytes();
        bytes[..148].iter().chain(&bytes[156..]).map(|&byte| value(byte)).sum::<i64>() + 8 * 32
    };
    header.cksum().is_ok_and(|stated| {
        let stated = i64::from(stated);
        stated == sum(i64::from) || stated == sum(|byte| i64::from(byte.cast_signed()))
    })
}

/// A piece of the file, read where it is asked for.
struct Window<'a> {
    file: &'a File,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `count` bytes at `start`, which lie inside the file.
    fn get(&mut self, start: u64, count: u64) -> io::Result<&[u8]> {
        let inside = start >= self.start && start + count <= self.start + self.bytes.len() as u64;
        if !inside {
            let wanted = (count.max(WINDOW as u64)).min(self.size - start);
            self.start = start;
            self.bytes.resize(wanted as usize, 0);
            if let Err(e) = self.file.read_exact_at(&mut self.bytes, start) {
                self.bytes.clear();
                return Err(e);
            }
        }
        let at = (start - self.start) as usize;
        Ok(&self.bytes[at..at + count as usize])
    }

    /// Place of the first byte from `start` on that is not zero.
    fn first_not_zero(&mut self, start: u64) -> io::Result<Option<u64>> {
        let mut at = start;
        while at < self.size {
            let count = (WINDOW as u64).min(self.size - at);
            if let Some(place) = self.get(at, count)?.iter().position(|&byte| byte != 0) {
                return Ok(Some(at + place as u64));
            }
            at += count;
        }
        Ok(None)
    }
}
