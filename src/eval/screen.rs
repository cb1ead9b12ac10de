//! Every photograph is looked at once before the work begins: damaged ones are named, and left out or refused; a test
//! picture that trains the probe too is spoken of.

use std::collections::HashSet;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dataset::{Dataset, Fingerprint};
use super::stop::check_stop;
use crate::bail;
use crate::error::{Error, Result};
use crate::metrics::Progress;
use crate::say;

/// Images between two looks at whether a signal came.
const BATCH: usize = 256;

/// Damaged images that an error lists.
const LISTED: usize = 1000;

/// A data set whose images all decode.
#[derive(Debug)]
pub struct Screened {
    pub images: Dataset,
    /// Of every image.
    pub fingerprints: Vec<Fingerprint>,
    /// Images that were left out.
    pub bad: usize,
}

impl Screened {
    /// What tells it from others, wherever it lies: how much it holds, and the beginning of a hash of it.
    pub fn told(&self) -> String {
        let mut hash = Sha256::new();
        for (label, fingerprint) in self.images.labels().iter().zip(&self.fingerprints) {
            hash.update(label.to_le_bytes());
            hash.update(fingerprint);
        }
        let hash: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} pictures of {} classes (sha256 {hash}…)", self.images.len(), self.images.classes())
    }

    /// Cut into training and test images ([`Dataset::divide`]).
    ///
    /// # Errors
    /// `Usage` when no class has two images.
    pub fn divide(&self, share: f64, seed: u64) -> Result<(Self, Self)> {
        let (train, test) = self.images.divide(share, seed)?;
        let percent = (1000.0 * share).round() / 10.0;
        let part = |indices: &[usize], what: &str| Self {
            images: self.images.part(indices, format!("{}, {what}", self.images.name())),
            fingerprints: indices.iter().map(|&i| self.fingerprints[i]).collect(),
            bad: 0,
        };
        Ok((part(&train, "the rest"), part(&test, &format!("{percent} % of every class held out"))))
    }
}

/// Decodes every image of `sets` and leaves out those that are damaged, with what the sets name as defects: at most
/// `max_bad` in all.
///
/// # Errors
/// `Data` with the list of what is damaged when that is more, or when nothing is left of a set; `Io` when a file cannot
/// be read; `Interrupted` on a signal.
pub fn screen(sets: Vec<Dataset>, max_bad: usize) -> Result<Vec<Screened>> {
    let progress = Progress::bar(sets.iter().map(|set| set.len() as u64).sum(), "pictures looked at", ("picture", 1));
    let mut messages: Vec<String> = Vec::new();
    let mut screened = Vec::with_capacity(sets.len());
    for set in sets {
        let before = messages.len();
        messages.extend_from_slice(set.defects());
        let (mut whole, mut fingerprints) = (Vec::new(), Vec::new());
        for start in (0..set.len()).step_by(BATCH) {
            check_stop()?;
            let batch = start..(start + BATCH).min(set.len());
            progress.advance(batch.len() as u64);
            let found: Vec<Result<Fingerprint>> = batch.clone().into_par_iter().map(|i| set.examine(i)).collect();
            for (i, found) in batch.zip(found) {
                match found {
                    Ok(fingerprint) => {
                        whole.push(i);
                        fingerprints.push(fingerprint);
                    }
                    Err(Error::Data(message)) => messages.push(message),
                    Err(other) => return Err(other),
                }
            }
        }
        let images = if whole.len() == set.len() { set } else { set.part(&whole, set.name().to_string()) };
        screened.push(Screened { images, fingerprints, bad: messages.len() - before });
    }
    progress.finish();
    let bad = messages.len();
    if bad > max_bad {
        if bad > LISTED {
            messages.truncate(LISTED);
            messages.push(format!("… and {} more", bad - LISTED));
        }
        bail!(
            Data,
            "{}\n{bad} bad picture(s) in the training and test images, --max-bad allows {max_bad}: repair or remove them, \
             or raise --max-bad to go on without them",
            messages.join("\n")
        );
    }
    for (number, message) in messages.iter().enumerate() {
        say!("warning: bad picture {} of {max_bad} allowed: {message}", number + 1);
    }
    match screened.iter().find(|set| set.images.is_empty()) {
        Some(set) => bail!(Data, "{}: none of its pictures can be used", set.images.name()),
        None => Ok(screened),
    }
}

/// Says how many of the test images are among the training images, byte for byte.
pub fn warn_of_shared(train: &Screened, test: &Screened) {
    let known: HashSet<&Fingerprint> = train.fingerprints.iter().collect();
    let shared = test.fingerprints.iter().filter(|picture| known.contains(picture)).count();
    if shared == test.images.len() {
        say!(
            "warning: every test picture ({}) is also a training picture ({}): the figures say nothing of pictures that the probe \
             has not seen; give others, or have some held out (`probe --holdout 0.2`, `train` without --knn-test)",
            test.images.name(),
            train.images.name()
        );
    } else if shared > 0 {
        say!("warning: {shared} of {} test pictures are also training pictures, byte for byte", test.images.len());
    }
}
