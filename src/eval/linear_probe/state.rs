//! A linear probe on its way: what is kept so that it goes on where it was stopped.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::LinearConfig;
use super::report::Scores;
use crate::error::{Error, Result};
use crate::eval::dataset::Dataset;
use crate::eval::evaluator::Task;
use crate::eval::heads::Classifiers;
use crate::eval::kept;
use crate::say;
use crate::store;
use crate::weights::{SafeTensors, write_safetensors};

/// The file.
const STATE: &str = "linear.safetensors";

/// What a kill costs at most, beside the step in which it comes.
const EVERY: Duration = Duration::from_secs(60);

/// Heads of one kind while they train.
pub struct Trained {
    pub heads: Box<dyn Classifiers>,
    pub scores: Scores,
}

/// How far a probe is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// 0-based.
    pub epoch: usize,
    /// Steps that are done of it.
    pub step: usize,
}

/// The file in which it is kept.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// What the probe depends on: settings, weights, device and pictures.
    of: String,
    written: Cell<Instant>,
}

impl StateFile {
    /// The file in `folder` for the probe of `task`.
    ///
    /// # Errors
    /// `Io` naming a picture that cannot be read.
    pub fn of_task(folder: &Path, config: &LinearConfig, task: &Task<'_>) -> Result<Self> {
        let (train, test) = (task.train, task.test);
        let settings = (config, task.seed, task.transform, train.labels(), test.labels());
        let fingerprints = |set: &Dataset| set.fingerprints(&(0..set.len()).collect::<Vec<_>>());
        let of = kept::key(task.encoder.identity()?, &settings, &[&fingerprints(train)?, &fingerprints(test)?])?;
        Ok(Self::new(folder.join(STATE), of))
    }

    /// The file at `path` for the probe known by `of`.
    pub fn new(path: PathBuf, of: String) -> Self {
        Self { path, of, written: Cell::new(Instant::now()) }
    }

    /// Removes that of a probe which is done, and told of, in `folder`.
    ///
    /// # Errors
    /// `Io` when it cannot be.
    pub fn remove(folder: &Path) -> Result<()> {
        store::remove_file(&folder.join(STATE))
    }

    /// Takes back what is kept of this probe, if anything is, and says how far it was.
    ///
    /// # Errors
    /// `Data` or `Io` when the file is damaged or cannot be read; if the device fails.
    pub fn read(&self, trained: &mut [Trained]) -> Result<Position> {
        if !self.path.exists() {
            return Ok(Position::default());
        }
        let file = match SafeTensors::open(&self.path) {
            Ok(file) => file,
            Err(Error::Data(what)) => {
                say!("note: {what}: this state of a linear probe is damaged; it begins anew");
                return Ok(Position::default());
            }
            Err(other) => return Err(other),
        };
        if file.metadata("of") != Some(&self.of) {
            say!("note: {}: is of another probe, or other pictures; this one begins anew", self.path.display());
            return Ok(Position::default());
        }
        let at: Position = self.parsed(&file, "position")?;
        let scores: Vec<Scores> = self.parsed(&file, "scores")?;
        for (kind, scores) in trained.iter_mut().zip(scores) {
            let place = place(&scores);
            kind.heads.restore(&mut |name, len| file.f32(&format!("{place}.{name}"), &[len]))?;
            kind.scores = scores;
        }
        say!("linear probe: goes on at epoch {}, step {}, by {}", at.epoch + 1, at.step + 1, self.path.display());
        Ok(at)
    }

    fn parsed<T: DeserializeOwned>(&self, file: &SafeTensors, key: &str) -> Result<T> {
        let text = file.metadata(key).unwrap_or_default();
        serde_json::from_str(text).map_err(|e| {
            Error::Data(format!("{}: header: {key}: {e}; remove the file to begin anew", self.path.display()))
        })
    }

    /// Keeps the state at `at` where none was kept for a minute.
    ///
    /// # Errors
    /// `Io` when it cannot be written; if the device fails.
    pub fn keep_if_due(&self, trained: &[Trained], at: Position) -> Result<()> {
        if self.written.get().elapsed() >= EVERY {
            self.keep(trained, at)?;
        }
        Ok(())
    }

    /// Keeps the state at `at`.
    ///
    /// # Errors
    /// As [`StateFile::keep_if_due`].
    pub fn keep(&self, trained: &[Trained], at: Position) -> Result<()> {
        let mut tensors = Vec::new();
        for kind in trained {
            let place = place(&kind.scores);
            let named = kind.heads.tensors()?.into_iter().map(|(name, values)| (format!("{place}.{name}"), values));
            tensors.extend(named);
        }
        let views: Vec<_> =
            tensors.iter().map(|(name, values)| (name.clone(), vec![values.len()], &values[..])).collect();
        let scores: Vec<&Scores> = trained.iter().map(|kind| &kind.scores).collect();
        let json = |value: serde_json::Result<String>| value.map_err(|e| Error::Failed(format!("state: {e}")));
        let metadata = [
            ("of", self.of.clone()),
            ("position", json(serde_json::to_string(&at))?),
            ("scores", json(serde_json::to_string(&scores))?),
        ];
        write_safetensors(&self.path, &views, &metadata)?;
        self.written.set(Instant::now());
        Ok(())
    }
}

fn place(scores: &Scores) -> &'static str {
    if scores.batch_norm { "batch_norm" } else { "plain" }
}
