//! What a probe found: `report.json` and a table for people.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::encoder::Encoder;
use super::knn::KnnReport;
use super::linear_probe::{LinearReport, Select};
use super::settings::ProbeSettings;
use super::transform::{Fit, Transform};
use crate::error::{Error, Result};
use crate::image::Filter;
use crate::models::vit::VitConfig;
use crate::store::write_atomic;

/// Everything a probe found and under which settings. Without times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub model: ModelReport,
    pub train: DataReport,
    pub test: DataReport,
    pub transform: Transform,
    pub settings: ProbeSettings,
    /// Without batch norm first, when both kinds were trained.
    pub linear: Vec<LinearReport>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub knn: Option<KnnReport>,
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

/// One row of the table.
struct Row {
    probe: String,
    /// Top-1 in percent of the chosen head at the chosen epoch.
    top1: f64,
    base_lr: Option<f64>,
    epoch: Option<usize>,
    /// Top-1 of the head chosen after the last epoch.
    last: Option<f64>,
}

const COLUMNS: [&str; 5] = ["probe", "top-1 %", "base lr", "epoch", "last epoch %"];

impl ProbeReport {
    /// The best top-1 of the linear probe in percent, over the kinds of heads that were trained.
    pub fn linear_top1(&self) -> Option<f64> {
        self.linear.iter().map(|report| report.best.evaluation.test).reduce(f64::max)
    }

    /// Writes the report as JSON, atomically.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
        write_atomic(path, (text + "\n").as_bytes())
    }

    /// A table in aligned columns under what was probed, on what, and how the figures were chosen.
    pub fn text(&self) -> String {
        let rows: Vec<[String; 5]> =
            std::iter::once(COLUMNS.map(String::from)).chain(self.rows().iter().map(Row::cells)).collect();
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
        out + self.footnote()
    }

    /// The same table in Markdown.
    pub fn markdown(&self) -> String {
        let mut out: String = self.heading().map(|(what, text)| format!("- {what}: {text}\n")).concat();
        out += &format!("\n| {} |\n|---|---:|---:|---:|---:|\n", COLUMNS.join(" | "));
        for row in self.rows() {
            out += &format!("| {} |\n", row.cells().join(" | "));
        }
        out + "\n" + self.footnote()
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

    fn footnote(&self) -> &'static str {
        match self.linear.first().map(|report| report.selected_on) {
            Some(Select::Test) => {
                "Head and epoch selected on the test set as the paper does, which flatters by what the choice fits;\n\
                 --select val chooses on held-out training images.\n"
            }
            Some(Select::Val) => {
                "Head and epoch selected on a tenth of the training images, held out; the rest trained the heads.\n"
            }
            None => "",
        }
    }

    fn rows(&self) -> Vec<Row> {
        let linear = self.linear.iter().map(|report| Row {
            probe: if report.batch_norm { "linear, batch norm".into() } else { "linear".into() },
            top1: report.best.evaluation.test,
            base_lr: Some(report.best.base_lr),
            epoch: Some(report.best.evaluation.epoch),
            last: Some(report.last.evaluation.test),
        });
        let knn = self.knn.iter().map(|report| Row {
            probe: format!("{}-NN, temperature {}", report.k, report.temperature),
            top1: report.test,
            base_lr: None,
            epoch: None,
            last: None,
        });
        linear.chain(knn).collect()
    }
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let optional = |value: Option<String>| value.unwrap_or_default();
        [
            self.probe.clone(),
            format!("{:.2}", self.top1),
            optional(self.base_lr.map(|lr| lr.to_string())),
            optional(self.epoch.map(|epoch| epoch.to_string())),
            optional(self.last.map(|last| format!("{last:.2}"))),
        ]
    }
}
