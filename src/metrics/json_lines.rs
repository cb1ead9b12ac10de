//! One JSON object per line and step.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

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

    /// Goes on with `path` before step `next_step` is run: lines whose `step` is `next_step` or later, and everything after the first
    /// torn line, are cut off, so that the file of a resumed run is that of an uninterrupted one. Starts one that does not exist.
    pub fn resume(path: impl AsRef<Path>, next_step: u64) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let mut keep = 0;
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let step =
                serde_json::from_slice::<Value>(line).ok().and_then(|value| value.get("step").and_then(Value::as_u64));
            if line.last() != Some(&b'\n') || step.is_none_or(|step| step >= next_step) {
                break;
            }
            keep += line.len();
        }
        let open = OpenOptions::new().append(true).create(true).open(&path);
        let file = open.map_err(Error::io("open", &path))?;
        file.set_len(keep as u64).map_err(Error::io("truncate", &path))?;
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
