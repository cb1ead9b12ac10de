//! Values of a config's JSON object by their keys.

use std::path::Path;

use serde_json::{Map, Value};

use crate::bail;
use crate::config::json;
use crate::error::{Error, Result};
use crate::store;

/// An object of a config, and how its keys are called in messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    pub map: &'a Map<String, Value>,
    /// The file.
    pub file: &'a str,
    /// What stands before a key: `model_args.`, or nothing.
    pub within: &'static str,
}

/// The JSON of the file at `path`.
///
/// # Errors
/// `Io` when it cannot be read, `Data` when it is no JSON.
pub(super) fn read(path: &Path) -> Result<Value> {
    let bytes = store::read(path, store::RECORD).map_err(Error::io("read", path))?;
    json::parse(&bytes).map_err(|e| Error::Data(format!("{}: not JSON ({e})", path.display())))
}

impl<'a> Keys<'a> {
    /// The value of `key`, where it is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A number, or two that are equal, as `[height, width]`.
    ///
    /// # Errors
    /// `Data` naming file and key for anything else.
    pub fn number(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value.as_array().map(Vec::as_slice) {
            Some([height, width]) if height == width => height.as_u64(),
            _ => value.as_u64(),
        };
        match number.and_then(|number| usize::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => bail!(Data, "{}: {}{key} is {}, expected a number", self.file, self.within, json::placed(value)),
        }
    }

    /// True or false.
    ///
    /// # Errors
    /// As [`Keys::number`].
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => {
                bail!(Data, "{}: {}{key} is {}, expected true or false", self.file, self.within, json::placed(other))
            }
        }
    }

    /// Three finite numbers.
    ///
    /// # Errors
    /// As [`Keys::number`].
    pub fn triple(&self, key: &str) -> Result<Option<[f32; 3]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match serde_json::from_value::<[f32; 3]>(value.clone()) {
            Ok(three) if three.iter().all(|v| v.is_finite()) => Ok(Some(three)),
            _ => bail!(Data, "{}: {}{key} is {}, expected three numbers", self.file, self.within, json::placed(value)),
        }
    }

    /// The first key that neither is one of `read` nor has the value of `fixed`, with that value.
    pub fn unknown(&self, read: &[&str], fixed: &[(&str, Value)]) -> Option<(&'a str, &'a Value)> {
        let known = |key: &str, value: &Value| {
            value.is_null() || read.contains(&key) || fixed.iter().any(|(name, wanted)| *name == key && wanted == value)
        };
        self.map.iter().find(|(key, value)| !known(key, value)).map(|(key, value)| (key.as_str(), value))
    }
}
