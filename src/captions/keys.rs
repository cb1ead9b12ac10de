//! Names of samples from a column of the caption file.

use std::collections::HashMap;

use super::columns::shorten;

/// Longest key, bytes: file systems take names of 255, of which number and extension need some.
const LONGEST: usize = 200;

/// The keys seen so far, with their lines.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<Box<str>, u64>);

impl Keys {
    /// The key in `field` of line `line`, or why it cannot be one: it becomes a file name inside a tar, of which
    /// webdataset reads the part before the first dot, and two captions with one key would be one sample.
    pub(super) fn take(&mut self, field: &[u8], line: u64) -> Result<Box<str>, String> {
        let Ok(text) = std::str::from_utf8(field) else { return Err("the key is not UTF-8".into()) };
        let key = text.trim();
        if key.is_empty() {
            return Err("no key in the column that --key-column names".into());
        }
        if key.len() > LONGEST {
            return Err(format!("a key of {} bytes, expected at most {LONGEST}", key.len()));
        }
        if let Some(c) = key.chars().find(|&c| !(c.is_alphanumeric() || c == '-' || c == '_')) {
            return Err(format!("key `{}` holds {c:?}; expected letters, digits, - and _", shorten(key, 40)));
        }
        if let Some(first) = self.0.get(key) {
            return Err(format!(
                "key `{}` is that of line {first} too; expected another for every caption",
                shorten(key, 40)
            ));
        }
        self.0.insert(key.into(), line);
        Ok(key.into())
    }
}
