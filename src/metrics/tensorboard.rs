//! TensorBoard event files: scalars and settings in TFRecord framing.
//!
//! A record is `length u64, masked crc32c of it u32, data, masked crc32c of it u32`, little endian; the data is an
//! `Event` message in protocol buffer encoding (tensorflow/core/util/event.proto, framework/summary.proto;
//! tensorboard/plugins/hparams/plugin_data.proto and api.proto).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::error::{Error, Result};

/// The plugin that sorts runs by their settings.
const HPARAMS: &str = "hparams";

/// Writes scalars and settings for TensorBoard.
#[derive(Debug)]
pub struct TensorBoard {
    file: File,
    path: PathBuf,
}

impl TensorBoard {
    /// Starts an event file in `folder`, which is created if needed. It makes TensorBoard forget what earlier files
    /// there say of `next_step` and later, so that a run that was killed has every step once. (A file that a viewer may
    /// have open is never cut.)
    pub fn open(folder: impl AsRef<Path>, next_step: u64) -> Result<Self> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let (name, first) = next_name(folder)?;
        let path = folder.join(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io("create", &path))?;
        let mut board = Self { file, path };
        board.event(0, &bytes_field(3, b"brain.Event:2"))?;
        if !first {
            // SessionLog { status: START }: readers drop everything from this step on that they read before.
            board.event(next_step, &bytes_field(7, &varint_field(1, 1)))?;
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

    /// Records the settings of the run, at step 0: as a table among the texts, and as hyperparameters to sort runs by,
    /// beside the last values of the curves `metrics`. That is what PyTorch's `SummaryWriter.add_hparams` writes: an
    /// experiment that says which settings and metrics there are, and the start of a session with their values;
    /// [`TensorBoard::ended`] is the end. A setting that is null is none.
    pub fn settings(&mut self, settings: &Value, metrics: &[&str]) -> Result<()> {
        let mut flat = Vec::new();
        flatten("", settings, &mut flat);
        let mut table = "| setting | value |\n|---|---|\n".to_owned();
        flat.iter().for_each(|(name, value)| table += &format!("| {name} | {} |\n", plain(value).replace('|', "\\|")));
        // TensorProto { dtype: DT_STRING, tensor_shape { dim { size: 1 } }, string_val }
        let shape = bytes_field(2, &varint_field(1, 1));
        let text = [varint_field(1, 7), bytes_field(2, &shape), bytes_field(8, table.as_bytes())].concat();
        let metadata = bytes_field(1, &bytes_field(1, b"text"));
        let value =
            [bytes_field(1, b"settings/text_summary"), bytes_field(8, &text), bytes_field(9, &metadata)].concat();
        self.event(0, &bytes_field(5, &bytes_field(1, &value)))?;

        // Experiment { hparam_infos { name, type }, metric_infos { name { tag } } }
        let mut experiment = Vec::new();
        // SessionStartInfo { hparams: map<string, google.protobuf.Value> }
        let mut hparams = Vec::new();
        for (name, value) in flat.into_iter().filter(|(_, value)| !value.is_null()) {
            let (kind, value) = match (value.as_f64(), value.as_bool()) {
                (Some(number), _) => (3, [vec![2 << 3 | 1], number.to_le_bytes().to_vec()].concat()),
                (None, Some(yes)) => (2, varint_field(4, u64::from(yes))),
                (None, None) => (1, bytes_field(3, plain(value).as_bytes())),
            };
            let name = bytes_field(1, name.as_bytes());
            experiment.extend(bytes_field(4, &[name.clone(), varint_field(4, kind)].concat()));
            hparams.extend(bytes_field(1, &[name, bytes_field(2, &value)].concat()));
        }
        for tag in metrics {
            experiment.extend(bytes_field(5, &bytes_field(1, &bytes_field(2, tag.as_bytes()))));
        }
        self.plugin("experiment", &bytes_field(2, &experiment), 0)?;
        self.plugin("session_start_info", &bytes_field(3, &hparams), 0)
    }

    /// Records that the run has ended well, at `step`.
    pub fn ended(&mut self, step: u64) -> Result<()> {
        // SessionEndInfo { status: STATUS_SUCCESS }
        self.plugin("session_end_info", &bytes_field(4, &varint_field(1, 1)), step)
    }

    /// Records what the plugin of hyperparameters is told as `what`: an `HParamsPluginData`.
    fn plugin(&mut self, what: &str, data: &[u8], step: u64) -> Result<()> {
        let plugin = [bytes_field(1, HPARAMS.as_bytes()), bytes_field(2, data)].concat();
        let tag = format!("_hparams_/{what}");
        let value = [bytes_field(1, tag.as_bytes()), bytes_field(9, &bytes_field(1, &plugin))].concat();
        self.event(step, &bytes_field(5, &bytes_field(1, &value)))
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

/// Names and values of what is not nested: `model.width`.
fn flatten<'a>(name: &str, value: &'a Value, out: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                flatten(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, out);
            }
        }
        value => out.push((name.to_owned(), value)),
    }
}

/// A text without its quotes, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `events.out.tfevents.SECONDS.stablerep`, later than every file in `folder`: readers take them in the order of their
/// names. And whether it is the first.
fn next_name(folder: &Path) -> Result<(String, bool)> {
    const PREFIX: &str = "events.out.tfevents.";
    let mut first = true;
    let mut seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        let name = name.to_string_lossy();
        let taken =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()).and_then(|s| s.parse::<u64>().ok());
        seconds = seconds.max(taken.map_or(0, |taken| taken + 1));
        first &= taken.is_none();
    }
    Ok((format!("{PREFIX}{seconds:010}.stablerep"), first))
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
