//! `config.json` of a model folder: every key is either understood, known to be irrelevant, or refused by name.
//!
//! A key that is absent has its default. One that is `null` has not: Python then passes `None`, which is false where a
//! truth value is asked for, no value where there may be none, and an error everywhere else. It is read so here.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::store;
use crate::weights;

/// Most layers that stand in a row.
const MOST_LAYERS: usize = 128;

/// The keys of one config file, and which of them were read.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    map: Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl Settings {
    /// Reads a JSON object from `path`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let shown = path.display();
        // Reading a pipe would wait for a writer.
        if fs::metadata(&path).is_ok_and(|info| !info.is_file()) {
            return Err(Error::Data(format!("{shown}: is no file; download the model again")));
        }
        let text = store::read(&path, store::RECORD).map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                Error::Data(format!("{shown}: not there; --model expects a diffusers folder of Stable Diffusion"))
            }
            _ => Error::io("read", &path)(e),
        })?;
        Self::parse(&text, path)
    }

    /// As [`Settings::open`], from the file's bytes; errors call it `path`.
    pub fn parse(bytes: &[u8], path: PathBuf) -> Result<Self> {
        let shown = path.display();
        match json::parse(bytes) {
            Ok(Value::Object(map)) => Ok(Self { path, map, read: RefCell::default() }),
            Ok(_) => Err(Error::Data(format!("{shown}: expected a JSON object of settings"))),
            Err(_) if weights::is_lfs_pointer(bytes) => Err(Error::Data(weights::lfs_pointer(&path))),
            Err(e) => Err(Error::Data(format!("{shown}: not JSON: {e}; download the model again"))),
        }
    }

    /// Whether there is a file of settings at `path`, and what it says.
    ///
    /// # Errors
    /// As [`Settings::open`], but for a file that is not there.
    pub fn open_if_there(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        if path.exists() { Self::open(path).map(Some) } else { Ok(None) }
    }

    /// The number of this key above zero, such as what keeps a division finite.
    pub fn positive(&self, key: &str, default: f64) -> Result<f64> {
        match self.number(key, default)? {
            value if value > 0.0 => Ok(value),
            _ => Err(self.wrong(key, "a number above 0")),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// The value of `key`, which may be null; `None` when absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.map.get(key)
    }

    /// The value of `key`; `None` when absent or null.
    pub fn non_null(&self, key: &str) -> Option<&Value> {
        self.get(key).filter(|value| !value.is_null())
    }

    /// An error about `key`.
    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self
            .map
            .get(key)
            .map_or_else(|| "it is absent".to_owned(), |value| format!("found {}", json::shown(value)));
        Error::Data(format!("{}: `{key}`: expected {expected}, {found}", self.path.display()))
    }

    /// A whole number from 1 to 2^20; `default` when absent.
    pub fn count(&self, key: &str, default: Option<usize>) -> Result<usize> {
        match (self.get(key), default) {
            (None, Some(default)) => Ok(default),
            (value, _) => value.and_then(as_count).ok_or_else(|| self.wrong(key, "a whole number from 1 to 2^20")),
        }
    }

    /// A list of whole numbers, or one number that stands for `length` of them; `default` when absent.
    pub fn counts(&self, key: &str, length: usize, default: Option<usize>) -> Result<Vec<usize>> {
        let expected = || self.wrong(key, &format!("a whole number or a list of {length}"));
        match self.get(key) {
            Some(Value::Array(items)) if items.len() == length => {
                items.iter().map(as_count).collect::<Option<_>>().ok_or_else(expected)
            }
            Some(value) => as_count(value).map(|v| vec![v; length]).ok_or_else(expected),
            None => default.map(|v| vec![v; length]).ok_or_else(expected),
        }
    }

    /// [`Settings::count`] of layers. A network is laid out by them before a weight is looked at, so that a number
    /// without sense would cost memory without bound.
    pub fn layer_count(&self, key: &str, default: Option<usize>) -> Result<usize> {
        self.count(key, default).and_then(|layers| self.few(key, layers))
    }

    /// [`Settings::counts`] of layers, as [`Settings::layer_count`] bounds them.
    pub fn layers(&self, key: &str, length: usize, default: Option<usize>) -> Result<Vec<usize>> {
        let all = self.counts(key, length, default)?;
        all.into_iter().map(|layers| self.few(key, layers)).collect()
    }

    fn few(&self, key: &str, layers: usize) -> Result<usize> {
        if layers > MOST_LAYERS { Err(self.wrong(key, &format!("1 to {MOST_LAYERS} layers"))) } else { Ok(layers) }
    }

    /// A list of 1 to 16 whole numbers.
    pub fn list(&self, key: &str) -> Result<Vec<usize>> {
        let items = self.get(key).and_then(Value::as_array).filter(|items| (1..=16).contains(&items.len()));
        let numbers = items.and_then(|items| items.iter().map(as_count).collect());
        numbers.ok_or_else(|| self.wrong(key, "a list of 1 to 16 whole numbers"))
    }

    /// A list of `length` names.
    pub fn names(&self, key: &str, length: usize) -> Result<Vec<&str>> {
        let items = self.get(key).and_then(Value::as_array).filter(|items| items.len() == length);
        let names = items.and_then(|items| items.iter().map(Value::as_str).collect());
        names.ok_or_else(|| self.wrong(key, &format!("a list of {length} names")))
    }

    /// A list of `length` whole numbers that are one and the same, or that number; `default` when absent.
    pub fn same_count(&self, key: &str, length: usize, default: Option<usize>) -> Result<usize> {
        let counts = self.counts(key, length, default)?;
        match counts.iter().all(|count| *count == counts[0]) {
            true => Ok(counts[0]),
            false => Err(self.wrong(key, "one number, or a list of one number (others are not implemented)")),
        }
    }

    /// A finite number; `default` when absent.
    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().filter(|v| v.is_finite()).ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    /// True or false; `default` when absent, false when null.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    /// One of `choices`; the first when absent.
    pub fn choice<'a>(&self, key: &str, choices: &[&'a str]) -> Result<&'a str> {
        let Some(value) = self.get(key) else { return Ok(choices[0]) };
        let found = value.as_str().and_then(|text| choices.iter().find(|choice| **choice == text));
        found
            .copied()
            .ok_or_else(|| self.wrong(key, &format!("one of {} (others are not implemented)", choices.join(", "))))
    }

    /// Refuses any value of `key` but `only`, a list of it, or absence. Where `only` is null or false, both are the
    /// same.
    pub fn only(&self, key: &str, only: Value) -> Result<()> {
        let nothing = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        let same = |value: &Value| {
            *value == only
                || (nothing(value) && nothing(&only))
                || (value.as_f64().is_some() && value.as_f64() == only.as_f64())
        };
        let fits = |value: &Value| same(value) || value.as_array().is_some_and(|list| list.iter().all(same));
        match self.get(key) {
            Some(value) if !fits(value) => {
                Err(self.wrong(key, &format!("{only} or no such key (others are not implemented)")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses every key that was not read, is not in `irrelevant`, does not start with `_`, and says something (not
    /// null, not false).
    pub fn finish(&self, irrelevant: &[&str]) -> Result<()> {
        let read = self.read.borrow();
        for (key, value) in &self.map {
            let silent = value.is_null() || *value == Value::Bool(false) || key.starts_with('_');
            if !silent && !read.contains(key) && !irrelevant.contains(&key.as_str()) {
                bail!(
                    Data,
                    "{}: `{key}` = {} is not known to this version, so the model might be computed wrongly; expected a Stable \
                     Diffusion 1.x or 2.x model",
                    self.path.display(),
                    json::shown(value)
                );
            }
        }
        Ok(())
    }
}

fn as_count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|v| (1..=1 << 20).contains(v)).map(|v| v as usize)
}
