//! A score on its way: what is counted so far, so that what was interrupted goes on.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::score::{Beyond, Confusion};
use crate::bail;
use crate::error::{Error, Result};
use crate::say;
use crate::store;

/// The file, which is gone when the report is there.
const FILE: &str = "segment.json";
/// What a kill costs at most, beside the picture in which it comes.
const EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Kept {
    /// What the counts depend on.
    of: String,
    done: usize,
    bad: usize,
    bad_pictures: usize,
    beyond: Beyond,
    counts: Vec<u64>,
}

/// How far it is.
#[derive(Debug)]
pub struct State {
    of: String,
    /// Pictures that were looked at.
    pub done: usize,
    /// Samples that were left out, and how many of them are among the pictures looked at.
    pub bad: usize,
    bad_pictures: usize,
    pub beyond: Beyond,
    pub confusion: Confusion,
    saved: Instant,
}

impl State {
    /// What `folder` keeps of the score known by `of`, or its beginning.
    ///
    /// # Errors
    /// `Io` when the file cannot be read. What is no record of this program is as if it were not there.
    pub fn open(folder: &Path, of: &str, classes: usize) -> Result<Self> {
        let path = folder.join(FILE);
        let kept: Option<Kept> = match store::read(&path, store::RECORD) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let begin = Self {
            of: of.to_owned(),
            done: 0,
            bad: 0,
            bad_pictures: 0,
            beyond: Beyond::default(),
            confusion: Confusion::new(classes),
            saved: Instant::now(),
        };
        let Some(kept) = kept else { return Ok(begin) };
        if kept.of != of {
            say!("note: {}: is of another network, or other pictures; this one begins anew", path.display());
            return Ok(begin);
        }
        let Some(confusion) = Confusion::of_counts(classes, kept.counts.clone()) else { return Ok(begin) };
        say!("goes on after {} pictures, by {}", kept.done, path.display());
        let Kept { done, bad, bad_pictures, beyond, .. } = kept;
        Ok(Self { done, bad, bad_pictures, beyond, confusion, ..begin })
    }

    /// Counts what of shards cannot be used, where nothing was looked at yet.
    ///
    /// # Errors
    /// `Data` when that is more than `most`.
    pub fn count_defects(&mut self, messages: &[String], most: usize) -> Result<()> {
        match self.done {
            0 => messages.iter().try_for_each(|message| self.count(message, most)),
            _ => Ok(()),
        }
    }

    /// Counts a picture that cannot be used.
    ///
    /// # Errors
    /// `Data` when there are more than `most`.
    pub fn count_bad(&mut self, message: &str, most: usize) -> Result<()> {
        self.bad_pictures += 1;
        self.count(message, most)
    }

    fn count(&mut self, message: &str, most: usize) -> Result<()> {
        self.bad += 1;
        if self.bad > most {
            bail!(
                Data,
                "{message}\n{} bad picture(s), --max-bad allows {most}: repair them, or raise --max-bad to score without \
                 them",
                self.bad
            );
        }
        say!("warning: bad picture {} of {most} allowed: {message}", self.bad);
        Ok(())
    }

    /// Pictures that were scored.
    pub fn scored(&self) -> usize {
        self.done - self.bad_pictures
    }

    /// Saves where nothing was saved for a minute, and where it is asked to.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn save(&mut self, folder: &Path, now: bool) -> Result<()> {
        if now || self.saved.elapsed() >= EVERY {
            let kept = Kept {
                of: self.of.clone(),
                done: self.done,
                bad: self.bad,
                bad_pictures: self.bad_pictures,
                beyond: self.beyond.clone(),
                counts: self.confusion.counts().to_vec(),
            };
            store::write_record(folder, FILE, &kept)?;
            self.saved = Instant::now();
        }
        Ok(())
    }

    /// Removes what is kept of a score that is told of.
    ///
    /// # Errors
    /// `Io` when it cannot be.
    pub fn remove(folder: &Path) -> Result<()> {
        store::remove_file(&folder.join(FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Classes;

    #[test]
    fn what_was_counted_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let open = |of| State::open(folder.path(), of, 2).unwrap();
        let mut state = open("a");
        state.count_defects(&["a shard is cut".into()], 2).unwrap();
        state.confusion.add(&[0, 1, 1], &[0, 0, 1]);
        state.done = 3;
        state.beyond.add(&[1, 4, 255], Classes { count: 2, first: 1 }, "one.png");
        state.count_bad("a picture is cut", 2).unwrap();
        state.save(folder.path(), false).unwrap();
        assert_eq!(open("a").done, 0);
        state.save(folder.path(), true).unwrap();
        let again = open("a");
        assert_eq!((again.done, again.bad, again.scored()), (3, 2, 2));
        assert_eq!((&again.confusion, &again.beyond), (&state.confusion, &state.beyond));
        assert_eq!(again.beyond.pixels, 1);
        // What is bad beside the pictures was counted then; one more is too many.
        let mut again = again;
        again.count_defects(&["a shard is cut".into()], 2).unwrap();
        assert_eq!(again.count_bad("another", 2).unwrap_err().exit_code(), 3);
        // Of other weights, and of other classes, nothing is taken.
        assert_eq!(open("b").done, 0);
        assert_eq!(State::open(folder.path(), "a", 3).unwrap().done, 0);
        State::remove(folder.path()).unwrap();
        State::remove(folder.path()).unwrap();
        assert_eq!(open("a").done, 0);
    }
}
