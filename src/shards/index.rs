//! The samples of many shards: where every member lies.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::damage::Damage;
use super::locate::{Located, locate_all};
use super::open_files::OpenFiles;
use super::recent::Recent;
use super::scan::{Scanned, scan};
use crate::bail;
use crate::error::{Error, Result};
use crate::metrics::Progress;

/// An index over tar files, in the order given; samples in file order. Files are opened when something in them is read,
/// so that their number is not limited; they must not change as long as the index is in use.
#[derive(Debug)]
pub struct Shards {
    pub(super) files: Vec<Scanned>,
    pub(super) open: OpenFiles,
    pub(super) recent: Recent,
    pub(super) extensions: Vec<String>,
    /// Number of the first sample, and of the first picture, of every file; their totals last.
    pub(super) firsts: Vec<(u32, u32)>,
    /// Which of the paths named each file.
    named_by: Vec<usize>,
    damage: Vec<Damage>,
    notes: Vec<String>,
}

/// One file of [`Shards`].
#[derive(Clone, Copy, Debug)]
pub struct ShardFile<'a> {
    pub path: &'a Path,
    pub bytes: u64,
    pub samples: usize,
    /// SHA-256 over the keys, extensions and lengths of all members and a checksum of their first 1024 and last 512
    /// bytes: equal wherever the file lies and however the tar was packed.
    pub sha256: &'a [u8; 32],
}

impl Shards {
    /// Indexes every tar that `paths` name (see [`locate`](super::locate())) by its headers alone. Damaged places do
    /// not fail here: they are listed by [`Shards::damage`], and the sample they cut is left out. A file named twice,
    /// or a copy of one, is used once ([`Shards::notes`]).
    ///
    /// # Errors
    /// `Data` for what is not there or holds no shards; an I/O error for a file that cannot be read; `Interrupted`
    /// after a signal.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let Located { files, named_by, mut expected, mut notes } = locate_all(paths)?;
        let named_by: HashMap<PathBuf, usize> = files.iter().cloned().zip(named_by).collect();
        let scanned = scan_all(&files)?;
        let mut damage = Vec::new();
        let mut copies: Vec<(PathBuf, PathBuf)> = Vec::new();
        let mut joined = Join::default();
        for mut file in scanned {
            if let Some(same) = joined.copy_of(&file) {
                expected.remove(&file.path);
                copies.push((file.path, same.to_path_buf()));
                continue;
            }
            let (found, whole) = (file.samples.len(), file.damage.is_empty());
            if let Some(wanted) = expected.remove(&file.path).filter(|&wanted| whole && wanted != found) {
                let what = format!("{found} samples where sizes.json says {wanted}");
                damage.push(Damage { file: file.path.clone(), offset: file.stamp.bytes, what });
            }
            damage.append(&mut file.damage);
            if let Some((count, key)) = file.repeated.take() {
                notes.push(format!(
                    "{}: {count} sample(s) come a second time, with the same key and members, e.g. {key}; each is used once",
                    file.path.display()
                ));
            }
            joined.add(file)?;
        }
        notes.extend(describe_copies(&copies));
        for (file, samples) in expected.into_iter().filter(|(_, samples)| *samples > 0) {
            let what = format!("the file is missing; sizes.json says it has {samples} samples");
            damage.push(Damage { file, offset: 0, what });
        }
        let Join { files, extensions, firsts, total, .. } = joined;
        let firsts = firsts.into_iter().chain([total]).collect();
        let named_by = files.iter().map(|file| named_by.get(&file.path).copied().unwrap_or(0)).collect();
        let (open, recent) = (OpenFiles::default(), Recent::default());
        Ok(Self { files, open, recent, extensions, firsts, named_by, damage, notes })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.firsts.last().map_or(0, |total| total.0 as usize)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many numbers [`Shards::picture`] knows; one of a sample without a picture is among them.
    pub fn pictures(&self) -> u32 {
        self.firsts.last().map_or(0, |total| total.1)
    }

    /// Which of the paths that were opened named file `file`.
    pub fn named_by(&self, file: usize) -> usize {
        self.named_by[file]
    }

    /// The tar files, in order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = ShardFile<'_>> {
        self.files.iter().map(|file| ShardFile {
            path: &file.path,
            bytes: file.stamp.bytes,
            samples: file.samples.len(),
            sha256: &file.sha256,
        })
    }

    /// Every damaged place found while indexing.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// What a user should know of the choice of files and is no damage.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Memory the index takes, bytes.
    pub fn bytes(&self) -> u64 {
        let of = |file: &Scanned| {
            size_of::<Scanned>()
                + file.keys.len()
                + size_of_val(&file.samples[..])
                + size_of_val(&file.members[..])
                + file.path.as_os_str().len()
        };
        self.files.iter().map(|file| of(file) as u64).sum()
    }
}

/// Scans every file; says how far it is when that takes long.
fn scan_all(files: &[PathBuf]) -> Result<Vec<Scanned>> {
    // What cannot be asked for its size will be named when it is opened.
    let bytes = files.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|info| info.len()).sum::<u64>();
    let progress = Progress::of_short_work(bytes >> 20, "indexing, MiB", ("megabyte", 1));
    let scanned: Result<_> =
        files.par_iter().map(|path| scan(path, &|mebibytes| progress.advance(mebibytes))).collect();
    progress.finish();
    scanned
}

/// What is said of files that hold the same as an earlier one.
fn describe_copies(copies: &[(PathBuf, PathBuf)]) -> Option<String> {
    let (copy, same) = copies.first()?;
    let (copy, same) = (copy.display(), same.display());
    let elsewhere = copies.iter().any(|(copy, same)| copy.parent() != same.parent());
    let seed = match elsewhere {
        true => " (a second `stablerep generate` of the same captions draws other pictures with another --seed)",
        false => "",
    };
    Some(match copies.len() {
        1 => format!("{copy} is a copy of {same} and is used once{seed}"),
        count => {
            format!("{count} files are copies of others, e.g. {copy} is a copy of {same}; each is used once{seed}")
        }
    })
}

/// Files put one after the other.
#[derive(Default)]
struct Join {
    files: Vec<Scanned>,
    extensions: Vec<String>,
    known: HashMap<String, u16>,
    by_content: BTreeMap<[u8; 32], usize>,
    firsts: Vec<(u32, u32)>,
    total: (u32, u32),
}

impl Join {
    /// The file before it that holds the same.
    fn copy_of(&self, file: &Scanned) -> Option<&Path> {
        let same = self.by_content.get(&file.sha256).filter(|_| !file.samples.is_empty());
        same.map(|&place| self.files[place].path.as_path())
    }

    /// Takes up a file: its extensions get the numbers they have in all files.
    fn add(&mut self, mut file: Scanned) -> Result<()> {
        let mut numbers = Vec::with_capacity(file.extensions.len());
        for extension in std::mem::take(&mut file.extensions) {
            let number = match self.known.get(&extension) {
                Some(&number) => number,
                None => {
                    let Ok(next) = u16::try_from(self.extensions.len()) else {
                        bail!(
                            Data,
                            "{}: with it the shards have more than 65536 different extensions, the last one \
                             .{extension}; a key ends at \
                             the first dot of a name: use names without other dots",
                            file.path.display()
                        );
                    };
                    self.extensions.push(extension.clone());
                    self.known.insert(extension, next);
                    next
                }
            };
            numbers.push(number);
        }
        for member in &mut file.members {
            member.extension = numbers[usize::from(member.extension)];
        }
        let pictures = file.samples.last().map_or(0, |ends| ends.pictures);
        let ends = (self.total.0.checked_add(file.samples.len() as u32), self.total.1.checked_add(pictures));
        let (Some(samples), Some(pictures)) = ends else {
            return Err(Error::Data("the shards hold more than 4 billion samples or pictures; train on fewer".into()));
        };
        self.firsts.push(self.total);
        self.total = (samples, pictures);
        self.by_content.insert(file.sha256, self.files.len());
        self.files.push(file);
        Ok(())
    }
}
