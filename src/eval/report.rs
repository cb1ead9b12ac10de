//! What a probe found: `report.json` and a table for people.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use super::columns::Columns;
use super::dataset::Dataset;
use super::encoder::Encoder;
use super::evaluator::{Row, Score};
use super::settings::ProbeSettings;
use super::transform::Transform;
use crate::error::{Error, Result};
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

    /// A table in aligned columns under what was probed, on what, and how the figures were chosen.
    pub fn text(&self) -> String {
        self.columns().text()
    }

    /// The same table in Markdown.
    pub fn markdown(&self) -> String {
        self.columns().markdown()
    }

    fn columns(&self) -> Columns {
        Columns {
            heading: self.heading().to_vec(),
            header: COLUMNS.map(String::from).to_vec(),
            rows: self.rows().map(|row| cells(row).to_vec()).collect(),
            footnotes: self.scores.iter().flat_map(|score| score.footnote.lines()).map(String::from).collect(),
        }
    }

    fn heading(&self) -> [(&'static str, String); 4] {
        let data = |data: &DataReport| {
            let bad = if data.bad == 0 { String::new() } else { format!(", {} damaged left out", data.bad) };
            format!("{} ({} images, {} classes{bad})", data.name, data.images, data.classes)
        };
        [
            ("encoder", format!("{}, {}", self.model.source, self.model.description)),
            ("train", data(&self.train)),
            ("test", data(&self.test)),
            ("transform", self.transform.to_string()),
        ]
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
