//! What all formats have in common: the rules for captions, and where they go.

use super::keys::Keys;
use super::options::Options;
use crate::bail;
use crate::error::Result;

/// Longest caption taken, bytes: CLIP reads 77 tokens, so a longer line is no caption but a damaged file.
pub const MAX_CAPTION_BYTES: usize = 1 << 20;

/// One caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caption {
    pub id: u64,
    pub text: String,
    /// Its field of the key column, if there is one: letters, digits, `-` and `_`, unlike that of any other caption.
    pub key: Option<Box<str>>,
}

/// Where the formats put what they find; the rules that all formats share.
pub(super) struct Reader<'a> {
    /// Of the file, for messages.
    pub name: String,
    pub options: &'a Options,
    pub list: Vec<Caption>,
    keys: Keys,
    pub skipped_empty: usize,
    pub bad: Vec<String>,
    pub notes: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(name: String, options: &'a Options) -> Self {
        Self {
            name,
            options,
            list: Vec::new(),
            keys: Keys::default(),
            skipped_empty: 0,
            bad: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether there are as many captions as wanted.
    pub(super) fn full(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.list.len() >= limit)
    }

    /// Takes the bytes of caption `id`, found on line `line` (1-based) of the file, and of the field that names its
    /// samples.
    pub(super) fn take(&mut self, id: u64, line: u64, bytes: &[u8], key: Option<&[u8]>) -> Result<()> {
        if bytes.len() > MAX_CAPTION_BYTES {
            let found = bytes.len();
            return self.reject(line, &format!("{found} bytes long, expected at most {MAX_CAPTION_BYTES}"));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => return self.reject(line, "a zero byte in the caption; expected text"),
            Ok(text) => text.trim().replace(['\t', '\r', '\n'], " "),
            Err(e) => {
                let at = e.valid_up_to();
                return self
                    .reject(line, &format!("invalid UTF-8 after byte {at} of the caption; save the file as UTF-8"));
            }
        };
        if text.is_empty() {
            self.skipped_empty += 1;
            return Ok(());
        }
        let key = match key.map(|key| self.keys.take(key, line)).transpose() {
            Ok(key) => key,
            Err(why) => return self.reject(line, &why),
        };
        self.list.push(Caption { id, text, key });
        Ok(())
    }

    /// Counts a bad line; fails past `max_bad`.
    pub(super) fn reject(&mut self, line: u64, why: &str) -> Result<()> {
        self.bad.push(format!("{}:{line}: {why}", self.name));
        if self.bad.len() > self.options.max_bad {
            bail!(
                Data,
                "{}\n{} bad lines, --max-bad allows {}: fix the file, or raise --max-bad to skip them",
                self.bad.join("\n"),
                self.bad.len(),
                self.options.max_bad
            );
        }
        Ok(())
    }
}
