//! One JSON object per line and step.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::say;
use crate::store::write_atomic;

/// A file of JSON objects, one per line. Every line is handed to the system whole, so a killed run leaves at most one
/// torn line.
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
    /// read are taken out and named on stderr; those around them stay. Steps before `next_step` without a line are
    /// named too: their numbers are lost. Starts a file that does not exist.
    pub fn resume(path: impl AsRef<Path>, next_step: u64) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let mut kept = Vec::new();
        let mut damaged = Vec::new();
        let mut steps = Vec::new();
        for (number, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
            match step_of(line) {
                // The torn line of a kill.
                _ if line.last() != Some(&b'\n') => break,
                Some(step) if step >= next_step => break,
                Some(step) => {
                    kept.extend_from_slice(line);
                    steps.push(step);
                }
                None => damaged.push(number + 1),
            }
        }
        if !damaged.is_empty() {
            let (which, shown) = (which_lines(&damaged), path.display());
            say!("warning: {shown}: {which} no JSON object with a `step`; left out");
            write_atomic(&path, &kept)?;
        }
        if let Some((count, ranges)) = missing(&mut steps, next_step) {
            say!(
                "note: {}: {count} of the {next_step} steps so far have no line ({ranges}); going on without",
                path.display()
            );
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

    /// Adds the keys of `value`, an object, to the last line; nothing where there is none. The file is whole before and
    /// after.
    pub fn amend_last(&mut self, value: &impl Serialize) -> Result<()> {
        let more = serde_json::to_string(value).map_err(|e| Error::Failed(format!("{}: {e}", self.path.display())))?;
        let mut text = std::fs::read_to_string(&self.path).map_err(Error::io("read", &self.path))?;
        let more = more.trim_start_matches('{');
        if !text.ends_with("}\n") || more == "}" {
            return Ok(());
        }
        text.truncate(text.len() - "}\n".len());
        write_atomic(&self.path, format!("{text},{more}\n").as_bytes())?;
        self.file = OpenOptions::new().append(true).open(&self.path).map_err(Error::io("open", &self.path))?;
        Ok(())
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

/// Lines or ranges named one by one.
const NAMED: usize = 4;

/// `line 3 is`, `lines 3, 4 are`, `lines 3, 4, 5, 6, … (18 in all) are`.
fn which_lines(numbers: &[usize]) -> String {
    let named: Vec<String> = numbers.iter().take(NAMED).map(usize::to_string).collect();
    match numbers.len() {
        1 => format!("line {} is", named[0]),
        count if count > NAMED => format!("lines {}, … ({count} in all) are", named.join(", ")),
        _ => format!("lines {} are", named.join(", ")),
    }
}

/// How many of the steps before `end` are not in `steps`, and which: `0–3, 7`.
fn missing(steps: &mut Vec<u64>, end: u64) -> Option<(u64, String)> {
    steps.sort_unstable();
    steps.dedup();
    let count = end - steps.len() as u64;
    let mut next = 0;
    let mut ranges = Vec::new();
    for &step in steps.iter().chain([&end]) {
        match step - next {
            0 => {}
            1 => ranges.push(next.to_string()),
            _ => ranges.push(format!("{next}–{}", step - 1)),
        }
        next = step + 1;
    }
    if ranges.len() > NAMED {
        ranges.truncate(NAMED);
        ranges.push("…".into());
    }
    (count > 0).then(|| (count, ranges.join(", ")))
}

fn step_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_lines_are_named_as_long_as_they_are_few() {
        assert_eq!(which_lines(&[3]), "line 3 is");
        assert_eq!(which_lines(&[3, 5]), "lines 3, 5 are");
        assert_eq!(which_lines(&[1, 2, 3, 4, 5]), "lines 1, 2, 3, 4, … (5 in all) are");
    }

    #[test]
    fn the_last_line_takes_more_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut lines = JsonLines::create(&path).unwrap();
        lines.amend_last(&serde_json::json!({"knn": 1})).unwrap();
        for step in 0..2 {
            lines.write(&serde_json::json!({"step": step})).unwrap();
        }
        lines.amend_last(&serde_json::json!({"knn": 0.5})).unwrap();
        lines.amend_last(&serde_json::json!({})).unwrap();
        lines.write(&serde_json::json!({"step": 2})).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":0}\n{\"step\":1,\"knn\":0.5}\n{\"step\":2}\n");
    }

    #[test]
    fn steps_without_a_line_are_counted_and_named() {
        let of = |steps: &[u64], end| missing(&mut steps.to_vec(), end);
        assert_eq!(of(&[], 0), None);
        assert_eq!(of(&[0, 1, 2], 3), None);
        assert_eq!(of(&[], 3), Some((3, "0–2".into())));
        assert_eq!(of(&[4, 1, 2, 2], 6), Some((3, "0, 3, 5".into())));
        assert_eq!(of(&[1, 3, 5, 7, 9], 11), Some((6, "0, 2, 4, 6, …".into())));
    }
}
