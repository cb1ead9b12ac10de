//! TensorBoard event files: scalars in TFRecord framing.
//!
//! A record is `length u64, masked crc32c of it u32, data, masked crc32c of it u32`, little endian; the data is an `Event` message in
//! protocol buffer encoding (tensorflow/core/util/event.proto, framework/summary.proto).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// Writes scalars for TensorBoard.
#[derive(Debug)]
pub struct TensorBoard {
    file: File,
    path: PathBuf,
}

impl TensorBoard {
    /// Starts an event file in `folder`, which is created if needed.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open(folder.as_ref(), None)
    }

    /// Starts a further event file that makes TensorBoard forget what earlier files of `folder` say of `next_step` and later.
    /// (A file that a viewer may have open is never cut.)
    pub fn resume(folder: impl AsRef<Path>, next_step: u64) -> Result<Self> {
        Self::open(folder.as_ref(), Some(next_step))
    }

    fn open(folder: &Path, resumed: Option<u64>) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let path = folder.join(next_name(folder)?);
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io("create", &path))?;
        let mut board = Self { file, path };
        board.event(0, &bytes_field(3, b"brain.Event:2"))?;
        if let Some(step) = resumed {
            // SessionLog { status: START }: readers drop everything from this step on that they read before.
            board.event(step, &bytes_field(7, &varint_field(1, 1)))?;
        }
        Ok(board)
    }

    /// Records `value` of the curve `tag` at `step`.
    pub fn scalar(&mut self, tag: &str, value: f32, step: u64) -> Result<()> {
        let mut point = bytes_field(1, tag.as_bytes());
        point.push(2 << 3 | 5);
        point.extend(value.to_le_bytes());
        self.event(step, &bytes_field(5, &bytes_field(1, &point)))
    }

    fn event(&mut self, step: u64, what: &[u8]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let mut event = vec![1 << 3 | 1];
        event.extend(now.to_le_bytes());
        event.extend(varint_field(2, step));
        event.extend(what);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&event);
        record.extend(masked_crc(&event).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io("write", &self.path))
    }
}

/// `events.out.tfevents.SECONDS.stablerep`, later than every file in `folder`: readers take them in the order of their names.
fn next_name(folder: &Path) -> Result<String> {
    const PREFIX: &str = "events.out.tfevents.";
    let mut seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        let name = name.to_string_lossy();
        let taken =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()).and_then(|s| s.parse::<u64>().ok());
        seconds = seconds.max(taken.map_or(0, |taken| taken + 1));
    }
    Ok(format!("{PREFIX}{seconds:010}.stablerep"))
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(number: u8, value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    varint(value, &mut out);
    out
}

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}
