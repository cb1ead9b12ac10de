//! The samples of many shards: where every member lies in the mapped files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;

use super::locate::locate;
use super::sizes::read_sizes;
use super::tarball::{Found, scan};
use crate::device::MappedFile;
use crate::error::{Error, Result};

/// Something in a shard that could not be used. `Display` names file, place and loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// Bytes from the start of the file.
    pub offset: usize,
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file.display(), self.offset, self.what)
    }
}

/// An index over mapped tar files, in the order given; samples in file order.
#[derive(Debug)]
pub struct Shards {
    files: Vec<(PathBuf, MappedFile)>,
    samples: Vec<Sample>,
    members: Vec<Member>,
    extensions: Vec<String>,
    damage: Vec<Damage>,
}

#[derive(Debug)]
struct Sample {
    key: Box<str>,
    file: u32,
    /// First of its members; they end where the next sample's begin.
    members: usize,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    extension: u16,
    start: usize,
    length: usize,
}

/// What one file holds, before the files are joined: (key, members as (extension, place)).
type Scanned = (Vec<(String, Vec<(String, Found)>)>, Vec<Damage>);

impl Shards {
    /// Maps and indexes every tar that `paths` name (see [`locate`](super::locate())). Damaged places do not fail here:
    /// they are listed by [`Shards::damage`], and the sample they cut is left out.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut files = Vec::new();
        let mut expected = BTreeMap::new();
        for path in paths {
            for file in locate(path)? {
                files.push((file.clone(), MappedFile::open(&file)?));
            }
            if path.is_dir() {
                for (name, samples) in read_sizes(path)?.into_iter().flatten() {
                    expected.insert(path.join(name), samples);
                }
            }
        }
        let scanned: Vec<Scanned> = files.par_iter().map(|(path, bytes)| scan_samples(path, bytes)).collect();
        let mut all = Self {
            files: Vec::new(),
            samples: Vec::new(),
            members: Vec::new(),
            extensions: Vec::new(),
            damage: Vec::new(),
        };
        for (index, ((samples, damage), (path, bytes))) in scanned.into_iter().zip(&files).enumerate() {
            if let Some(wanted) = expected.remove(path).filter(|&wanted| damage.is_empty() && wanted != samples.len()) {
                let what = format!("{} samples where sizes.json says {wanted}", samples.len());
                all.damage.push(Damage { file: path.clone(), offset: bytes.len(), what });
            }
            all.damage.extend(damage);
            for (key, members) in samples {
                all.add(key, index as u32, members)?;
            }
        }
        for (file, samples) in expected.into_iter().filter(|(_, samples)| *samples > 0) {
            let what = format!("the file is missing; sizes.json says it has {samples} samples");
            all.damage.push(Damage { file, offset: 0, what });
        }
        all.files = files;
        Ok(all)
    }

    fn add(&mut self, key: String, file: u32, members: Vec<(String, Found)>) -> Result<()> {
        self.samples.push(Sample { key: key.into(), file, members: self.members.len() });
        for (extension, found) in members {
            let known = self.extensions.iter().position(|known| *known == extension).unwrap_or_else(|| {
                self.extensions.push(extension);
                self.extensions.len() - 1
            });
            let extension = u16::try_from(known).map_err(|_| {
                Error::Data("more than 65536 different member extensions: is this a webdataset?".into())
            })?;
            self.members.push(Member { extension, start: found.bytes.start, length: found.bytes.len() });
        }
        Ok(())
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The tar files, in order, with their sizes in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.files.iter().map(|(path, bytes)| (path.as_path(), bytes.len()))
    }

    /// Every damaged place found while indexing.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Sample `index`, below [`Shards::len`].
    pub fn sample(&self, index: usize) -> SampleRef<'_> {
        SampleRef { shards: self, index }
    }

    /// All samples, in order.
    pub fn iter(&self) -> impl Iterator<Item = SampleRef<'_>> {
        (0..self.len()).map(|index| self.sample(index))
    }
}

/// One sample of [`Shards`].
#[derive(Clone, Copy, Debug)]
pub struct SampleRef<'a> {
    shards: &'a Shards,
    index: usize,
}

/// Fields of a sample's json that this program and img2dataset write.
#[derive(Debug, Default, Deserialize)]
struct Fields {
    caption: Option<String>,
    caption_id: Option<u64>,
    #[serde(default)]
    flags: Vec<String>,
}

impl<'a> SampleRef<'a> {
    fn sample(&self) -> &'a Sample {
        &self.shards.samples[self.index]
    }

    pub fn key(&self) -> &'a str {
        &self.sample().key
    }

    /// Position in [`Shards`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// Position of its file in [`Shards::files`].
    pub fn file(&self) -> usize {
        self.sample().file as usize
    }

    /// `shard.tar: key`, for messages.
    pub fn name(&self) -> String {
        format!("{}: {}", self.shards.files[self.file()].0.display(), self.key())
    }

    /// (extension in small letters, bytes) of every member.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let shards = self.shards;
        let end = shards.samples.get(self.index + 1).map_or(shards.members.len(), |next| next.members);
        let bytes: &'a [u8] = &shards.files[self.file()].1;
        shards.members[self.sample().members..end]
            .iter()
            .map(move |m| (shards.extensions[usize::from(m.extension)].as_str(), &bytes[m.start..m.start + m.length]))
    }

    /// The member with this extension.
    pub fn member(&self, extension: &str) -> Option<&'a [u8]> {
        self.members().find(|(name, _)| *name == extension).map(|(_, bytes)| bytes)
    }

    /// The first member whose extension is, or ends in, `jpg`, `jpeg` or `png`.
    pub fn image(&self) -> Option<(&'a str, &'a [u8])> {
        self.members().find(|(name, _)| {
            let last = name.rsplit('.').next().unwrap_or(name);
            matches!(last, "jpg" | "jpeg" | "png")
        })
    }

    /// The caption: the `txt` member, else `caption` of the `json` member. An unreadable one is an error that names the sample.
    pub fn caption(&self) -> Result<Option<String>> {
        match self.member("txt") {
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_string())),
                Err(e) => Err(Error::Data(format!("{}.txt: caption is not UTF-8 ({e})", self.name()))),
            },
            None => Ok(self.fields()?.caption),
        }
    }

    /// `caption_id` of the `json` member, when there is one.
    pub fn caption_id(&self) -> Result<Option<u64>> {
        Ok(self.fields()?.caption_id)
    }

    /// `flags` of the `json` member: what the generator remarked about this image.
    pub fn flags(&self) -> Result<Vec<String>> {
        Ok(self.fields()?.flags)
    }

    fn fields(&self) -> Result<Fields> {
        match self.member("json") {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|e| {
                Error::Data(format!("{}.json: expected an object with `caption` and `caption_id` ({e})", self.name()))
            }),
            None => Ok(Fields::default()),
        }
    }
}

/// Groups the members of one file into samples, webdataset's way: a name is cut at the first dot of its last component; adjacent
/// members with the same first part are a sample.
fn scan_samples(path: &Path, bytes: &[u8]) -> Scanned {
    let (found, broken) = scan(bytes);
    let mut samples: Vec<(String, Vec<(String, Found)>)> = Vec::new();
    let mut damage = Vec::new();
    for member in found {
        let file_name = member.name.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = member.name[file_name..].find('.').map(|dot| file_name + dot).filter(|&dot| dot > file_name)
        else {
            continue; // no extension, or a hidden file: webdataset skips them
        };
        let (key, extension) = (&member.name[..dot], member.name[dot + 1..].to_ascii_lowercase());
        match samples.last_mut().filter(|sample| sample.0 == key) {
            Some((_, members)) if members.iter().any(|(known, _)| *known == extension) => {
                let what = format!("{key} has two members .{extension}; the second is not used");
                damage.push(Damage { file: path.to_path_buf(), offset: member.bytes.start, what });
            }
            Some((_, members)) => members.push((extension, member)),
            None => samples.push((key.to_string(), vec![(extension, member)])),
        }
    }
    if let Some(broken) = broken {
        // Members of the sample before the break may be missing, so it is not used either.
        let lost = samples.pop().map(|(key, _)| format!("; the sample before it ({key}) may be cut and is not used"));
        let what = format!("{}{}", broken.what, lost.unwrap_or_default());
        damage.push(Damage { file: path.to_path_buf(), offset: broken.offset, what });
    }
    (samples, damage)
}
