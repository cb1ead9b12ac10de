//! What a probe found: `report.json` and a table for people.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use super::dataset::Dataset;
use super::encoder::Encoder;
use super::evaluator::{Row, Score};
use super::settings::ProbeSettings;
use super::transform::{Fit, Transform};
use crate::error::{Error, Result};
use crate::image::Filter;
use crate::models::vit::VitConfig;
use crate::store::write_atomic;

/// Everything a probe found and under which settings. Without times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeReport {
    pub model: ModelReport,
    pub train: DataReport,
    pub test: DataReport,
    pub transform: Transform,
    pub settings: ProbeSettings,
    /// What every evaluator found, under its key.
    #[serde(flatten, serialize_with = "by_key")]
    pub scores: Vec<Score>,
}

fn by_key<S: Serializer>(scores: &[Score], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(scores.iter().map(|score| (score.key, &score.found)))
}

/// The encoder that was probed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    pub source: String,
    pub description: String,
    pub vit: VitConfig,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl ModelReport {
    pub(super) fn of(encoder: &Encoder) -> Self {
        Self {
            source: encoder.source().to_string(),
            description: encoder.describe(),
            vit: encoder.vit().config().clone(),
            mean: encoder.mean(),
            std: encoder.std(),
        }
    }
}

/// A data set that was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    pub name: String,
    pub images: usize,
    pub classes: usize,
    /// Damaged images that were left out (before a held-out share was taken).
    #[serde(skip_serializing_if = "is_zero", default)]
    pub bad: usize,
}

impl DataReport {
    pub(super) fn of(dataset: &Dataset) -> Self {
        Self { name: dataset.name().to_string(), images: dataset.len(), classes: dataset.classes(), bad: 0 }
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Writes a report as JSON, atomically.
///
/// # Errors
/// `Io` when the file cannot be written.
pub(super) fn write_json(report: &impl Serialize, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
    write_atomic(path, (text + "\n").as_bytes())
}

const COLUMNS: [&str; 5] = ["probe", "top-1 %", "base lr", "epoch", "last epoch %"];

impl ProbeReport {
    /// What the evaluator of this key found, if it ran.
    ///
    /// # Errors
    /// `Failed` when it found something else than a `T`.
    pub fn found<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(score) = self.scores.iter().find(|score| score.key == key) else { return Ok(None) };
        T::deserialize(&score.found).map(Some).map_err(|e| Error::Failed(format!("report: {key}: {e}")))
    }

    /// Writes the report as JSON, atomically.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(self, path)
    }

    /// A table in aligned columns under what was probed, on what, and how the figures were chosen.
    pub fn text(&self) -> String {
        let rows: Vec<[String; 5]> = std::iter::once(COLUMNS.map(String::from)).chain(self.rows().map(cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        let mut out: String = self.heading().map(|(what, text)| format!("{what:<11}{text}\n")).concat();
        for row in &rows {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                line += &format!("  {cell:>width$}");
            }
            out += line.trim_end();
            out.push('\n');
        }
        out + &self.footnotes()
    }

    /// The same table in Markdown.
    pub fn markdown(&self) -> String {
        let mut out: String = self.heading().map(|(what, text)| format!("- {what}: {text}\n")).concat();
        out += &format!("\n| {} |\n|---|---:|---:|---:|---:|\n", COLUMNS.join(" | "));
        for row in self.rows() {
            out += &format!("| {} |\n", cells(row).join(" | "));
        }
        out + "\n" + &self.footnotes()
    }

    fn heading(&self) -> [(&'static str, String); 4] {
        let data = |data: &DataReport| {
            let bad = if data.bad == 0 { String::new() } else { format!(", {} damaged left out", data.bad) };
            format!("{} ({} images, {} classes{bad})", data.name, data.images, data.classes)
        };
        let transform = match self.transform {
            Transform { fit: Fit::Crop, size, resize, .. } => format!("short side to {resize}, centre {size}×{size}"),
            Transform { fit: Fit::Stretch, size, .. } => format!("stretched to {size}×{size}"),
            Transform { fit: Fit::Pad, size, .. } => format!("padded to {size}×{size}"),
        };
        let transform = match self.transform.filter {
            Filter::Bilinear => transform,
            other => format!("{transform}, {}", format!("{other:?}").to_lowercase()),
        };
        [
            ("encoder", format!("{}, {}", self.model.source, self.model.description)),
            ("train", data(&self.train)),
            ("test", data(&self.test)),
            ("transform", transform),
        ]
    }

    fn footnotes(&self) -> String {
        self.scores.iter().map(|score| score.footnote).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.scores.iter().flat_map(|score| &score.rows)
    }
}

fn cells(row: &Row) -> [String; 5] {
    let optional = |value: Option<String>| value.unwrap_or_default();
    [
        row.probe.clone(),
        format!("{:.2}", row.top1),
        optional(row.base_lr.map(|lr| lr.to_string())),
        optional(row.epoch.map(|epoch| epoch.to_string())),
        optional(row.last.map(|last| format!("{last:.2}"))),
    ]
}
