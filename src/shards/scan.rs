//! The samples of one tar file, in the form in which the index keeps them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::damage::Damage;
use super::pictures::{Pictures, pictures};
use super::tarball::{Loss, Walk};
use crate::bail;
use crate::error::{Error, Result};
use crate::store;

/// Samples between two looks at whether a signal asked to stop.
const LOOK: usize = 4096;
/// Members lost one by one that are named in a file; more are counted.
const NAMED: usize = 8;

/// A member: 12 bytes, of which an index has several per sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Place in the list of extensions: of the file while it is scanned, of the index afterwards.
    pub extension: u16,
    length_high: u16,
    length_low: u32,
    /// Members begin at multiples of 512 bytes.
    block: u32,
}

impl Member {
    /// `None` for a place beyond 2 TiB or a length beyond 256 TiB.
    fn new(extension: u16, start: u64, length: u64) -> Option<Self> {
        Some(Self {
            extension,
            length_high: u16::try_from(length >> 32).ok()?,
            length_low: length as u32,
            block: u32::try_from(start / 512).ok()?,
        })
    }

    pub fn start(&self) -> u64 {
        512 * u64::from(self.block)
    }

    pub fn length(&self) -> u64 {
        u64::from(self.length_high) << 32 | u64::from(self.length_low)
    }
}

/// Where a sample's parts end; they begin where those of the sample before end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    /// In [`Scanned::keys`], bytes.
    pub key: u32,
    /// In [`Scanned::members`].
    pub members: u32,
    /// Numbers of its pictures; a sample without one has one number too.
    pub pictures: u32,
}

/// What tells that a file is still the one that was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub bytes: u64,
    pub modified: Option<SystemTime>,
}

impl Stamp {
    pub fn of(file: &File, path: &Path) -> Result<Self> {
        let info = file.metadata().map_err(Error::io("read", path))?;
        if info.is_dir() {
            bail!(Data, "{}: is a folder, expected a tar", path.display());
        }
        Ok(Self { bytes: info.len(), modified: info.modified().ok() })
    }
}

/// The samples of one file.
#[derive(Debug)]
pub(super) struct Scanned {
    pub path: PathBuf,
    pub stamp: Stamp,
    /// All keys, one after the other.
    pub keys: String,
    pub samples: Vec<Ends>,
    pub members: Vec<Member>,
    /// Whether some sample has a picture without a name; those with a name are then none.
    pub plain: bool,
    /// SHA-256 over key, extension, length and check of every member, sample after sample.
    pub sha256: [u8; 32],
    pub extensions: Vec<String>,
    pub damage: Vec<Damage>,
    /// How many samples came a second time, with the same members, and are left out; the key of the first.
    pub repeated: Option<(usize, String)>,
}

/// Groups the members of the tar at `path` into samples, webdataset's way: a name is cut at the first dot of its last
/// component; adjacent members with the same first part are a sample.
///
/// `passed` is told how many more MiB of the file lie behind.
///
/// # Errors
/// If the file cannot be read, or has more than 65536 different extensions; [`Error::Interrupted`] after a signal.
pub(super) fn scan(path: &Path, passed: &dyn Fn(u64)) -> Result<Scanned> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let stamp = Stamp::of(&file, path)?;
    let mut grouping = Grouping::new(path, stamp);
    let mut walk = Walk::new(&file, stamp.bytes);
    let mut single = 0;
    let mut told = 0;
    while let Some(step) = walk.step().map_err(Error::io("read", path))? {
        match step {
            Ok(found) => {
                grouping.add(&found.name, (found.start, found.length, found.check))?;
                let behind = (found.start + found.length) >> 20;
                if behind > told {
                    passed(behind - told);
                    told = behind;
                }
            }
            Err(broken) => {
                single += usize::from(broken.loss == Loss::Member);
                let mut what = broken.what;
                if broken.loss == Loss::Rest {
                    // Members of the sample before the break may be missing, so it is not used either.
                    if let Some(key) = grouping.drop_open() {
                        what += &format!("; the sample before it ({key}) may be cut and is not used");
                    }
                }
                if broken.loss != Loss::Member || single <= NAMED {
                    grouping.damaged(broken.offset, what);
                }
            }
        }
    }
    if single > NAMED {
        grouping.damaged(0, format!("{} more members that are links, sparse or unknown", single - NAMED));
    }
    grouping.finish()
}

/// The key of the first sample of the tar at `path`; `None` if it does not begin with one.
///
/// # Errors
/// If the file cannot be read.
pub fn first_key(path: &Path) -> Result<Option<String>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let step = Walk::new(&file, Stamp::of(&file, path)?.bytes).step().map_err(Error::io("read", path))?;
    Ok(step.and_then(Result::ok).and_then(|found| cut(&found.name).map(|(key, _)| key.to_owned())))
}

/// Key and extension in the name of a member; `None` for one without extension and for a hidden file, which webdataset
/// skips.
fn cut(name: &str) -> Option<(&str, &str)> {
    let file_name = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[file_name..].find('.').map(|dot| file_name + dot).filter(|&dot| dot > file_name)?;
    Some((&name[..dot], &name[dot + 1..]))
}

/// A sample whose members are still coming.
struct Open {
    key: String,
    /// (extension, start, length, check).
    members: Vec<(u16, u64, u64, u32)>,
}

struct Grouping {
    all: Scanned,
    known: HashMap<String, u16>,
    /// Key and members of every sample, as a hash.
    seen: HashSet<u64>,
    open: Option<Open>,
    sha256: Sha256,
}

impl Grouping {
    fn new(path: &Path, stamp: Stamp) -> Self {
        let all = Scanned {
            path: path.to_path_buf(),
            stamp,
            keys: String::new(),
            samples: Vec::new(),
            members: Vec::new(),
            plain: false,
            sha256: [0; 32],
            extensions: Vec::new(),
            damage: Vec::new(),
            repeated: None,
        };
        Self { all, known: HashMap::new(), seen: HashSet::new(), open: None, sha256: Sha256::new() }
    }

    fn damaged(&mut self, offset: u64, what: String) {
        self.all.damage.push(Damage { file: self.all.path.clone(), offset, what });
    }

    /// Takes up a member: (start, length, check).
    fn add(&mut self, name: &str, (start, length, check): (u64, u64, u32)) -> Result<()> {
        let Some((key, extension)) = cut(name) else { return Ok(()) };
        let extension = extension.to_ascii_lowercase();
        let extension = match self.known.get(&extension) {
            Some(&known) => known,
            None => {
                let Ok(next) = u16::try_from(self.all.extensions.len()) else {
                    bail!(
                        Data,
                        "{}: more than 65536 different extensions, the last one .{extension} of {key}; a key ends \
                         at the first dot of a \
                         name: use names without other dots",
                        self.all.path.display()
                    );
                };
                self.all.extensions.push(extension.clone());
                self.known.insert(extension, next);
                next
            }
        };
        if self.open.as_ref().is_none_or(|open| open.key != key) {
            self.close()?;
            self.open = Some(Open { key: key.to_string(), members: Vec::new() });
        }
        if let Some(open) = &mut self.open {
            open.members.push((extension, start, length, check));
        }
        Ok(())
    }

    /// Forgets the sample whose members are still coming; returns its key.
    fn drop_open(&mut self) -> Option<String> {
        self.open.take().map(|open| open.key)
    }

    /// Adds the sample whose members have come.
    fn close(&mut self) -> Result<()> {
        let Some(Open { key, members }) = self.open.take() else { return Ok(()) };
        let mut order: Vec<u16> = members.iter().map(|member| member.0).collect();
        order.sort_unstable();
        if let Some(pair) = order.windows(2).find(|pair| pair[0] == pair[1]) {
            let place = members.iter().rfind(|member| member.0 == pair[0]).map_or(0, |member| member.1);
            let extension = &self.all.extensions[usize::from(pair[0])];
            let what = format!("{key} has two members .{extension}; which one is meant? The sample is not used");
            self.damaged(place - 512, what);
            return Ok(());
        }
        let mut known: Vec<_> =
            members.iter().map(|&(extension, _, length, check)| (extension, length, check)).collect();
        known.sort_unstable();
        let mut hasher = DefaultHasher::new();
        (&key, known).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            self.all.repeated.get_or_insert((0, key)).0 += 1;
            return Ok(());
        }
        for &(extension, start, length, _) in &members {
            let Some(member) = Member::new(extension, start, length) else {
                bail!(Data, "{}: a member of {key} lies beyond 2 TiB; split the shard", self.all.path.display());
            };
            self.all.members.push(member);
        }
        // The order of members decides nothing, so it is no part of what the file holds.
        let mut sorted: Vec<_> = members.iter().collect();
        sorted.sort_by_key(|member| &self.all.extensions[usize::from(member.0)]);
        for &(extension, _, length, check) in sorted {
            let name = &self.all.extensions[usize::from(extension)];
            for part in [key.as_bytes(), name.as_bytes(), &length.to_le_bytes(), &check.to_le_bytes()] {
                self.sha256.update((part.len() as u32).to_le_bytes());
                self.sha256.update(part);
            }
        }
        let names = members.iter().map(|member| self.all.extensions[usize::from(member.0)].as_str());
        let count = match pictures(names) {
            Ok(Pictures { places, named }) => {
                self.all.plain |= !named;
                places.len()
            }
            Err(_) => 1,
        };
        self.all.keys.push_str(&key);
        let before = self.all.samples.last().copied().unwrap_or_default();
        let ends = (
            u32::try_from(self.all.keys.len()),
            u32::try_from(self.all.members.len()),
            u32::try_from(before.pictures as usize + count),
        );
        let (Ok(key), Ok(members), Ok(pictures)) = ends else {
            bail!(Data, "{}: more than 4 GiB of keys or 4 billion members; split the shard", self.all.path.display());
        };
        self.all.samples.push(Ends { key, members, pictures });
        if self.all.samples.len().is_multiple_of(LOOK) {
            stop_if_asked()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Scanned> {
        self.close()?;
        self.all.sha256 = self.sha256.finalize().into();
        self.all.keys.shrink_to_fit();
        self.all.samples.shrink_to_fit();
        self.all.members.shrink_to_fit();
        stop_if_asked()?;
        Ok(self.all)
    }
}

/// [`Error::Interrupted`] once a signal arrived.
pub(super) fn stop_if_asked() -> Result<()> {
    if store::interrupted() {
        return Err(Error::Interrupted(
            "stopped by a signal while the shards were read; nothing was changed, run the same command again".into(),
        ));
    }
    Ok(())
}
