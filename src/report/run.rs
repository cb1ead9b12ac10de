//! Training runs: curves, settings, and what tells several of them apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::chart::{Curve, figure};
use super::find::{Kind, name};
use super::page::{Section, command, folded, table};
use super::sheets::sheets;
use super::smooth::thinned;
use crate::bail;
use crate::config::{hex, json, shell_word};
use crate::error::{Error, Result};

const METRICS: &str = "metrics.jsonl";
const SETTINGS: &str = "config.toml";
const CHECKPOINT: &str = "checkpoint.safetensors";

/// What is drawn: the title of a figure, and the fields whose curves it has.
const FIGURES: [(&str, &[&str]); 5] = [
    ("loss", &["loss", "image_loss", "text_loss", "loss_floor"]),
    ("scores, %", &["knn", "zero_shot", "test.top1", "test.top5", "test.ema_top1", "test.ema_top5"]),
    ("learning rate", &["lr"]),
    ("norm of the gradient", &["grad_norm"]),
    ("images per second", &["images_per_second"]),
];

/// Scores in percent, and the fields that hold them.
const SCORES: [(&str, &str); 6] = [
    ("k-NN %", "knn"),
    ("zero-shot %", "zero_shot"),
    ("top-1 %", "test.top1"),
    ("top-5 %", "test.top5"),
    ("top-1 % of averaged weights", "test.ema_top1"),
    ("top-5 % of averaged weights", "test.ema_top5"),
];

/// What a run left.
#[derive(Debug)]
pub struct Run {
    pub name: String,
    /// A line for every step.
    pub lines: Vec<Value>,
    /// Settings by their flags.
    pub settings: Vec<(String, String)>,
}

impl Run {
    /// Reads the run in `folder`.
    ///
    /// # Errors
    /// `Data` naming the file and line that cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(METRICS);
        if !path.is_file() {
            bail!(Data, "{}: no {METRICS} in it; expected the folder of a training run", folder.display());
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let lines = bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
        let parse = |(number, line): (usize, &[u8])| {
            json::parse_note(line).map_err(|e| Error::Data(format!("{}: line {}: {e}", path.display(), number + 1)))
        };
        let lines = lines.map(parse).collect::<Result<Vec<Value>>>()?;
        let path = folder.join(SETTINGS);
        let settings = match fs::read_to_string(&path) {
            Ok(text) => {
                let said: toml::Table =
                    toml::from_str(&text).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
                said.into_iter().map(|(key, value)| (key, value.to_string().trim_matches('"').to_owned())).collect()
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        Ok(Self { name: name(folder), lines, settings })
    }

    /// The values of a field, `of.what` for one within another, over steps.
    pub fn curve(&self, field: &str) -> Vec<(f64, f64)> {
        let point = |line: &Value| {
            let value = field.split('.').try_fold(line, |value, part| value.get(part))?;
            Some((line.get("step")?.as_f64()?, value.as_f64()?))
        };
        self.lines.iter().filter_map(point).collect()
    }

    /// The last value of a field.
    pub fn last(&self, field: &str) -> Option<f64> {
        self.curve(field).last().map(|point| point.1)
    }
}

/// The section of the run in `folder`.
pub fn section(folder: &Path) -> Result<Section> {
    let run = Run::read(folder)?;
    let mut html = String::from("<div class=\"charts\">\n");
    for (title, fields) in FIGURES {
        let curve = |field: &&str| Curve { name: (*field).to_owned(), points: thinned(run.curve(field)) };
        html += &figure(title, "step", &fields.iter().map(curve).collect::<Vec<_>>());
    }
    html += "</div>\n";
    html += &scores(&run);
    html += &sheets(folder)?;
    html += &folded("settings", &run.settings);
    let checkpoint = folder.join(CHECKPOINT);
    if checkpoint.is_file() {
        let bytes = fs::File::open(&checkpoint).and_then(|mut file| {
            let mut hash = Sha256::new();
            std::io::copy(&mut file, &mut hash).map(|_| hash.finalize())
        });
        let hash = hex(&bytes.map_err(Error::io("read", &checkpoint))?);
        html += &folded("files", &[(CHECKPOINT.to_owned(), format!("SHA-256 {hash}"))]);
    }
    html += &command(&format!("stablerep train --config {} --output AGAIN", shell_word(&folder.join(SETTINGS))));
    Ok(Section::new(run.name, Kind::Run.name(), html))
}

/// What was scored on the way: where it ended, and where it was best.
fn scores(run: &Run) -> String {
    let mut rows = Vec::new();
    for (name, field) in SCORES {
        let curve = run.curve(field);
        let (Some(&(at, last)), Some(best)) = (curve.last(), curve.iter().max_by(|a, b| a.1.total_cmp(&b.1))) else {
            continue;
        };
        let step = |at: f64| format!("{}", at + 1.0);
        rows.push(vec![name.to_owned(), format!("{last:.2}"), step(at), format!("{:.2}", best.1), step(best.0)]);
    }
    if rows.is_empty() {
        return String::new();
    }
    table(&["scores", "at the end", "after step", "best", "after step"].map(str::to_owned), &rows)
}

/// One section of several runs: their curves on one sheet, and what tells them apart.
pub fn together(folders: &[&Path]) -> Result<Section> {
    let runs = folders.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>>>()?;
    let mut html = String::from("<div class=\"charts\">\n");
    for field in ["loss", "knn", "zero_shot", "test.top1", "test.ema_top1"] {
        let curve = |run: &Run| Curve { name: run.name.clone(), points: thinned(run.curve(field)) };
        html += &figure(field, "step", &runs.iter().map(curve).collect::<Vec<_>>());
    }
    html += "</div>\n";
    let (header, rows) = differences(&runs);
    html += &table(&header, &rows);
    Ok(Section::new("All runs".into(), Kind::Run.name(), html))
}

/// A table of what differs between `runs`: settings first, then where they ended.
pub fn differences(runs: &[Run]) -> (Vec<String>, Vec<Vec<String>>) {
    let header = std::iter::once("setting".to_owned()).chain(runs.iter().map(|run| run.name.clone())).collect();
    let of = |run: &Run, key: &str| run.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let keys: BTreeSet<&str> = runs.iter().flat_map(|run| &run.settings).map(|(key, _)| key.as_str()).collect();
    let mut rows = Vec::new();
    for key in keys.into_iter().filter(|key| *key != "output") {
        let values: Vec<Option<String>> = runs.iter().map(|run| of(run, key)).collect();
        if values.iter().any(|value| *value != values[0]) {
            let shown = values.into_iter().map(|value| value.unwrap_or_else(|| "–".into()));
            rows.push(std::iter::once(key.to_owned()).chain(shown).collect());
        }
    }
    for (what, field) in [("steps", "step"), ("last loss", "loss")].into_iter().chain(SCORES) {
        let values: Vec<Option<f64>> = runs.iter().map(|run| run.last(field)).collect();
        if values.iter().any(Option::is_some) {
            let shown = |value: Option<f64>| match (value, field) {
                (None, _) => "–".to_owned(),
                (Some(step), "step") => format!("{}", step + 1.0),
                (Some(value), "loss") => format!("{value:.4}"),
                (Some(value), _) => format!("{value:.2}"),
            };
            rows.push(std::iter::once(what.to_owned()).chain(values.into_iter().map(shown)).collect());
        }
    }
    (header, rows)
}

/// The fields of an object, those of objects within it by `of.what`.
pub fn pairs(value: &Value) -> Vec<(String, String)> {
    fn add(value: &Value, at: &str, out: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    add(value, &at, out);
                }
            }
            Value::String(text) => out.push((at.to_owned(), text.clone())),
            Value::Null => {}
            other => out.push((at.to_owned(), other.to_string())),
        }
    }
    let mut out = Vec::new();
    add(value, "", &mut out);
    out
}
