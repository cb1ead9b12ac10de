//! A data set in memory or in files: labels beside images that are read when asked for.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::region::Region;
use super::samples::Samples;
use super::split::hold_out;
use crate::bail;
use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::rng::{Domain, Stream};
use crate::shards::SampleRef;

/// Which part of a data set a folder that holds several is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Test,
}

/// Images with one class label each.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    /// Where each image stands among `images`.
    index: Vec<u32>,
    labels: Vec<u32>,
    class_names: Vec<String>,
    images: Arc<Images>,
    /// Of every one of `images`; none where they count whole.
    regions: Arc<[Region]>,
    /// Of every one of `images`, once it is known.
    fingerprints: Arc<[OnceLock<Fingerprint>]>,
    pub(super) notes: Vec<String>,
    pub(super) defects: Vec<String>,
}

/// Where the images are.
#[derive(Debug)]
pub(super) enum Images {
    /// `[N, channels, H, W]` in memory, gray or RGB.
    Planes { height: usize, width: usize, channels: usize, pixels: Vec<u8> },
    /// One file per image.
    Files(Vec<PathBuf>),
    /// Samples of tar files.
    Samples(Box<Samples>),
}

/// A picture that cannot be read; one that is not there, such as a link to nothing, is as bad as a damaged one.
fn not_read(path: &Path, error: std::io::Error) -> Error {
    match (error.kind(), std::fs::read_link(path)) {
        (std::io::ErrorKind::NotFound, Ok(target)) => {
            Error::Data(format!("{}: is a link to {}, which does not exist", path.display(), target.display()))
        }
        (std::io::ErrorKind::NotFound, Err(_)) => Error::Data(format!("{}: is gone", path.display())),
        _ => Error::io("read", path)(error),
    }
}

/// What tells a picture from others: the first half of the SHA-256 of its file, or of its size and pixels where no file
/// is its own.
pub type Fingerprint = [u8; 16];

impl Dataset {
    pub(super) fn new(name: String, labels: Vec<u32>, class_names: Vec<String>, images: Images) -> Self {
        let index = (0..labels.len() as u32).collect();
        Self {
            name,
            index,
            fingerprints: labels.iter().map(|_| OnceLock::new()).collect(),
            labels,
            class_names,
            images: Arc::new(images),
            regions: [].into(),
            notes: Vec::new(),
            defects: Vec::new(),
        }
    }

    /// One file per image, with a label each below the number of `class_names`.
    pub fn of_files(name: String, paths: Vec<PathBuf>, labels: Vec<u32>, class_names: Vec<String>) -> Self {
        assert_eq!(paths.len(), labels.len());
        Self::new(name, labels, class_names, Images::Files(paths))
    }

    /// The same where of each image a region counts.
    ///
    /// # Panics
    /// If they are not as many.
    pub fn with_regions(self, regions: Vec<Region>) -> Self {
        assert_eq!(regions.len(), self.len());
        Self { regions: regions.into(), ..self }
    }

    /// Where it came from, as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each image, below [`Dataset::classes`].
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Names of the classes: folder names, or the numbers of `.cls` and IDX labels. Numbers that no image has take no
    /// place.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// What the user should know about how it was read: files left out, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What was found damaged while it was opened and is not among the images, one message each.
    pub fn defects(&self) -> &[String] {
        &self.defects
    }

    /// Image `index`, decoded.
    ///
    /// # Errors
    /// `Data` or `Io` naming the file, when it cannot be read or decoded.
    pub fn image(&self, index: usize) -> Result<Rgb8> {
        let stored = self.stored(index)?;
        match &*self.images {
            Images::Planes { height, width, channels, .. } => {
                let each = height * width;
                // A single channel is all three.
                let pixel = |at| [0, 1, 2].map(|channel: usize| stored[channel.min(channels - 1) * each + at]);
                Ok(Rgb8 { width: *width, height: *height, data: (0..each).flat_map(pixel).collect() })
            }
            Images::Files(_) | Images::Samples(_) => self.decoded(index, &stored),
        }
    }

    /// What counts of the file of image `index`.
    fn decoded(&self, index: usize, stored: &[u8]) -> Result<Rgb8> {
        let image = crate::image::decode(stored, &self.describe(index))?;
        match self.regions.get(self.index[index] as usize) {
            Some(region) => region.of(image, &self.describe(index)),
            None => Ok(image),
        }
    }

    /// The sample of a shard that image `index` is of, if it is of one.
    ///
    /// # Errors
    /// If the shard cannot be read.
    pub fn sample(&self, index: usize) -> Result<Option<SampleRef<'_>>> {
        match &*self.images {
            Images::Samples(samples) => samples.sample(self.index[index] as usize).map(Some),
            Images::Planes { .. } | Images::Files(_) => Ok(None),
        }
    }

    /// Decodes image `index` for nothing but to know that it is whole, and tells what it is known by.
    ///
    /// # Errors
    /// As [`Dataset::image`].
    pub fn examine(&self, index: usize) -> Result<Fingerprint> {
        let stored = self.stored(index)?;
        if !matches!(&*self.images, Images::Planes { .. }) {
            self.decoded(index, &stored)?;
        }
        Ok(self.note(index, &stored))
    }

    /// What image `index` is known by; it is read where it was not before.
    ///
    /// # Errors
    /// `Io` naming the file.
    pub fn fingerprint(&self, index: usize) -> Result<Fingerprint> {
        match self.fingerprints[self.index[index] as usize].get() {
            Some(&known) => Ok(known),
            None => Ok(self.note(index, &self.stored(index)?)),
        }
    }

    /// What the images at `indices` are known by.
    ///
    /// # Errors
    /// As [`Dataset::fingerprint`].
    pub fn fingerprints(&self, indices: &[usize]) -> Result<Vec<Fingerprint>> {
        indices.par_iter().map(|&index| self.fingerprint(index)).collect()
    }

    fn note(&self, index: usize, stored: &[u8]) -> Fingerprint {
        *self.fingerprints[self.index[index] as usize].get_or_init(|| {
            let mut hash = Sha256::new();
            if let Images::Planes { height, width, channels, .. } = &*self.images {
                hash.update(format!("{channels} × {height} × {width}"));
            }
            if let Some(region) = self.regions.get(self.index[index] as usize) {
                hash.update(format!("{region:?}"));
            }
            hash.update(stored);
            let mut fingerprint = Fingerprint::default();
            fingerprint.copy_from_slice(&hash.finalize()[..16]);
            fingerprint
        })
    }

    /// The bytes of image `index` as they are stored: a file's, a member's, or pixels.
    fn stored(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let at = self.index[index] as usize;
        match &*self.images {
            Images::Planes { height, width, channels, pixels } => {
                let each = channels * height * width;
                Ok(Cow::Borrowed(&pixels[at * each..(at + 1) * each]))
            }
            Images::Files(paths) => {
                let path = &paths[at];
                // A pipe would be waited for.
                if std::fs::metadata(path).is_ok_and(|info| !info.is_file()) {
                    bail!(Data, "{}: is a pipe or device; expected a picture", path.display());
                }
                std::fs::read(path).map(Cow::Owned).map_err(|e| not_read(path, e))
            }
            Images::Samples(samples) => samples.bytes(at).map(Cow::Owned),
        }
    }

    /// Which image `index` is, for messages.
    pub fn describe(&self, index: usize) -> String {
        let at = self.index[index] as usize;
        match &*self.images {
            Images::Planes { .. } => format!("{}: image {at}", self.name),
            Images::Files(paths) => paths[at].display().to_string(),
            Images::Samples(samples) => samples.describe(at),
        }
    }

    /// The images at `indices`, in that order, under the same classes and another name.
    pub fn part(&self, indices: &[usize], name: String) -> Self {
        Self {
            name,
            index: indices.iter().map(|&i| self.index[i]).collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            class_names: self.class_names.clone(),
            images: Arc::clone(&self.images),
            regions: Arc::clone(&self.regions),
            fingerprints: Arc::clone(&self.fingerprints),
            notes: Vec::new(),
            defects: Vec::new(),
        }
    }

    /// Positions of (training images, test images): `share` of every class, chosen by `seed` ([`hold_out`]), is for the
    /// test.
    ///
    /// # Errors
    /// `Usage` when no class has two images.
    pub fn divide(&self, share: f64, seed: u64) -> Result<(Vec<usize>, Vec<usize>)> {
        let stream = Stream::new(seed, Domain::Probe, [0, 0, 4]);
        let (mut train, test) = hold_out(&self.labels, self.classes(), share, stream);
        if test.is_empty() {
            bail!(
                Usage,
                "{}: no class has two images, so none can be held out; give test images of their own (--test, --knn-test)",
                self.name
            );
        }
        train.sort_unstable();
        Ok((train, test))
    }

    /// Renumbers the labels of this set (the test images) so that equal class names have the numbers they have in
    /// `train`.
    ///
    /// # Errors
    /// `Data` when it holds a class that `train` does not.
    pub fn match_classes(&mut self, train: &Dataset) -> Result<()> {
        let names = train.class_names.iter().enumerate();
        let numbers: HashMap<&str, u32> = names.map(|(number, name)| (name.as_str(), number as u32)).collect();
        let mut used = vec![false; self.classes()];
        self.labels.iter().for_each(|&label| used[label as usize] = true);
        let mut renumbered = Vec::with_capacity(self.classes());
        for (name, used) in self.class_names.iter().zip(used) {
            match numbers.get(name.as_str()) {
                Some(&number) => renumbered.push(number),
                // All its pictures were damaged.
                None if !used => renumbered.push(0),
                None => bail!(
                    Data,
                    "{}: class {name:?} is not among the {} classes of the training images {}; give both sets the same classes",
                    self.name,
                    train.classes(),
                    train.name
                ),
            }
        }
        self.labels.iter_mut().for_each(|label| *label = renumbered[*label as usize]);
        self.class_names = train.class_names.clone();
        Ok(())
    }
}

/// Classes of labels that are plain numbers, in their order: the labels counted from 0 without gaps, and the numbers as
/// names.
pub(super) fn numbered_classes(numbers: &[u32]) -> (Vec<u32>, Vec<String>) {
    let known: Vec<u32> = numbers.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect();
    let labels = numbers.iter().map(|number| known.partition_point(|other| other < number) as u32).collect();
    (labels, known.iter().map(u32::to_string).collect())
}
