//! The samples of the index one by one, and reading what they hold.

use std::path::Path;

use super::index::Shards;
use super::pictures::{looks_like_picture, pictures};
use super::scan::{Ends, Member};
use crate::bail;
use crate::error::{Error, Result};

/// Members of a sample in which its pictures are found as fast as they are remembered.
const FEW: usize = 16;

/// Class numbers at and above this are taken for damage, not for a data set.
const MAX_CLASSES: u32 = 1_000_000;

/// One sample of [`Shards`].
#[derive(Clone, Copy, Debug)]
pub struct SampleRef<'a> {
    shards: &'a Shards,
    file: usize,
    local: usize,
}

/// One picture of a sample.
#[derive(Clone, Copy, Debug)]
pub struct PictureRef<'a> {
    sample: SampleRef<'a>,
    number: u32,
    member: Member,
    /// Whether it is the only one of its sample.
    alone: bool,
}

impl Shards {
    /// Sample `index`, below [`Shards::len`].
    pub fn sample(&self, index: usize) -> SampleRef<'_> {
        let file = self.firsts.partition_point(|first| first.0 as usize <= index) - 1;
        SampleRef { shards: self, file, local: index - self.firsts[file].0 as usize }
    }

    /// All samples, in order.
    pub fn iter(&self) -> impl Iterator<Item = SampleRef<'_>> {
        (0..self.files.len()).flat_map(|file| self.samples_of(file))
    }

    /// The samples of one file, in order.
    pub fn samples_of(&self, file: usize) -> impl Iterator<Item = SampleRef<'_>> {
        (0..self.files[file].samples.len()).map(move |local| SampleRef { shards: self, file, local })
    }

    /// Picture `number`, one of [`SampleRef::pictures`]'.
    ///
    /// # Errors
    /// `Data` if no sample has such a picture.
    pub fn picture(&self, number: u32) -> Result<PictureRef<'_>> {
        let file = self.firsts.partition_point(|first| first.1 <= number).saturating_sub(1);
        let within = self.files.get(file).zip(number.checked_sub(self.firsts[file].1));
        let Some((scanned, within)) = within else { bail!(Data, "no picture {number} in these shards") };
        let local = scanned.samples.partition_point(|ends| ends.pictures <= within);
        if local == scanned.samples.len() {
            bail!(Data, "no picture {number} in these shards");
        }
        let sample = SampleRef { shards: self, file, local };
        sample.picture_at((number - sample.first_picture()) as usize)
    }
}

impl<'a> SampleRef<'a> {
    fn ends(&self) -> (Ends, Ends) {
        let samples = &self.shards.files[self.file].samples;
        let before = self.local.checked_sub(1).map_or_else(Ends::default, |before| samples[before]);
        (before, samples[self.local])
    }

    pub fn key(&self) -> &'a str {
        let (before, ends) = self.ends();
        &self.shards.files[self.file].keys[before.key as usize..ends.key as usize]
    }

    /// Position in [`Shards`].
    pub fn index(&self) -> usize {
        self.shards.firsts[self.file].0 as usize + self.local
    }

    /// Position of its file in [`Shards::files`].
    pub fn file(&self) -> usize {
        self.file
    }

    /// Its file.
    pub fn path(&self) -> &'a Path {
        &self.shards.files[self.file].path
    }

    /// `shard.tar: key`, for messages.
    pub fn name(&self) -> String {
        format!("{}: {}", self.path().display(), self.key())
    }

    fn places(&self) -> &'a [Member] {
        let (before, ends) = self.ends();
        &self.shards.files[self.file].members[before.members as usize..ends.members as usize]
    }

    /// (extension in small letters, length in bytes) of every member.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        let extensions = &self.shards.extensions;
        self.places().iter().map(move |member| (extensions[usize::from(member.extension)].as_str(), member.length()))
    }

    /// The bytes of the member with this extension.
    ///
    /// # Errors
    /// If the shard cannot be read.
    pub fn read(&self, extension: &str) -> Result<Option<Vec<u8>>> {
        let place = self.members().position(|(name, _)| name == extension);
        place.map(|place| self.read_member(self.places()[place], u64::MAX)).transpose()
    }

    /// The class number in its `.cls`; what is wrong with it in words.
    ///
    /// # Errors
    /// If the shard cannot be read.
    pub fn class(&self) -> Result<Option<Result<u32, String>>> {
        let Some(text) = self.read("cls")? else { return Ok(None) };
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        Ok(Some(number.filter(|number| *number < MAX_CLASSES).ok_or_else(|| {
            format!(
                "{}.cls holds {:?}; expected a class number from 0 to {}",
                self.name(),
                String::from_utf8_lossy(&text[..text.len().min(64)]),
                MAX_CLASSES - 1
            )
        })))
    }

    fn read_member(&self, member: Member, most: u64) -> Result<Vec<u8>> {
        let file = &self.shards.files[self.file];
        let length = member.length().min(most);
        self.shards.open.read(self.file as u32, &file.path, file.stamp, member.start(), length)
    }

    /// Number of its first picture among those of all shards. Where every sample has one picture, that is
    /// [`SampleRef::index`].
    pub(super) fn first_picture(&self) -> u32 {
        self.shards.firsts[self.file].1 + self.ends().0.pictures
    }

    /// The pictures of its caption, at least one, by the rule of all that read shards: the plain `jpg`, `jpeg` or
    /// `png`, or those with numbers (`0.jpg`, `1.jpg`, …) in their order, or a single one with another name.
    ///
    /// # Errors
    /// `Data` naming the sample if it has none, or if it is not clear which is meant.
    pub fn pictures(&self) -> Result<Vec<PictureRef<'a>>> {
        let found = pictures(self.members().map(|(extension, _)| extension));
        let found = match found {
            Ok(found) if found.named && self.shards.files[self.file].plain => Err(format!(
                "its only picture is .{}, while other samples of the file have a plain .jpg or .png",
                self.shards.extensions[usize::from(self.places()[found.places[0]].extension)]
            )),
            found => found,
        };
        let places = found.map_err(|what| Error::Data(format!("{}: {what}", self.name())))?.places;
        let (first, alone) = (self.first_picture(), places.len() == 1);
        let picture = |(number, place): (usize, usize)| PictureRef {
            sample: *self,
            number: first + number as u32,
            member: self.places()[place],
            alone,
        };
        Ok(places.into_iter().enumerate().map(picture).collect())
    }

    /// Picture `place` of [`SampleRef::pictures`].
    fn picture_at(&self, place: usize) -> Result<PictureRef<'a>> {
        if self.places().len() <= FEW {
            return match self.pictures()?.into_iter().nth(place) {
                Some(picture) => Ok(picture),
                None => bail!(Data, "{}: no picture {place}", self.name()),
            };
        }
        let find = || Ok(self.pictures()?.iter().map(PictureRef::member).collect());
        let members = self.shards.recent.members(self.first_picture(), find)?;
        match members.get(place) {
            Some(&member) => Ok(PictureRef {
                sample: *self,
                number: self.first_picture() + place as u32,
                member,
                alone: members.len() == 1,
            }),
            None => bail!(Data, "{}: no picture {place}", self.name()),
        }
    }

    /// Whether it has members that look like pictures beside `pictures`.
    pub(super) fn more_pictures(&self, pictures: &[PictureRef<'_>]) -> bool {
        self.members().filter(|(extension, _)| looks_like_picture(extension)).count() > pictures.len()
    }

    /// Its picture.
    ///
    /// # Errors
    /// As [`SampleRef::pictures`]; also if it has several.
    pub fn picture(&self) -> Result<PictureRef<'a>> {
        let pictures = self.pictures()?;
        match pictures[..] {
            [picture] => Ok(picture),
            _ => bail!(Data, "{}: has {} pictures, expected one", self.name(), pictures.len()),
        }
    }
}

impl<'a> PictureRef<'a> {
    /// Its number among the pictures of all shards, for [`Shards::picture`].
    pub fn number(&self) -> u32 {
        self.number
    }

    pub fn sample(&self) -> SampleRef<'a> {
        self.sample
    }

    fn member(&self) -> Member {
        self.member
    }

    /// Extension of its member, in small letters.
    pub fn extension(&self) -> &'a str {
        &self.sample.shards.extensions[usize::from(self.member.extension)]
    }

    /// `shard.tar: key`, with the extension where the sample has several pictures.
    pub fn name(&self) -> String {
        let sample = self.sample.name();
        if self.alone { sample } else { format!("{sample}.{}", self.extension()) }
    }

    /// Its file, encoded.
    ///
    /// # Errors
    /// If the shard cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        self.sample.read_member(self.member, u64::MAX)
    }

    /// Its first bytes, at most `most`.
    ///
    /// # Errors
    /// If the shard cannot be read.
    pub fn read_head(&self, most: u64) -> Result<Vec<u8>> {
        self.sample.read_member(self.member, most)
    }
}
