//! One JSON object per line and step.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::say;
use crate::store::write_atomic;

/// A file of JSON objects, one per line. Every line is handed to the system whole, so a killed run leaves at most one torn line.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    path: PathBuf,
}

impl JsonLines {
    /// Starts an empty file.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(Self { file, path })
    }

    /// Goes on with `path` before step `next_step` is run: lines whose `step` is `next_step` or later, and what follows
    /// them, are cut off, so that the file of a resumed run is that of an uninterrupted one. Whole lines that cannot be
    /// read are taken out and named on stderr; those around them stay. Starts a file that does not exist.
    pub fn resume(path: impl AsRef<Path>, next_step: u64) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let mut kept = Vec::new();
        let mut damaged = Vec::new();
        for (number, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
            match step_of(line) {
                // The torn line of a kill.
                _ if line.last() != Some(&b'\n') => break,
                Some(step) if step >= next_step => break,
                Some(_) => kept.extend_from_slice(line),
                None => damaged.push(number + 1),
            }
        }
        for line in &damaged {
            say!("warning: {}: line {line} is no JSON object with a `step`; it is left out", path.display());
        }
        if !damaged.is_empty() {
            write_atomic(&path, &kept)?;
        }
        let open = OpenOptions::new().append(true).create(true).open(&path);
        let file = open.map_err(Error::io("open", &path))?;
        file.set_len(kept.len() as u64).map_err(Error::io("truncate", &path))?;
        Ok(Self { file, path })
    }

    /// Appends one object as a line.
    pub fn write(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|e| Error::Failed(format!("{}: {e}", self.path.display())))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io("write", &self.path))
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

fn step_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(line).ok()?.get("step")?.as_u64()
}
