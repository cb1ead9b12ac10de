//! What was found: `report.json`, a table, and a curve over the guidance scale.

use serde::Serialize;

use super::inception::Resize;
use crate::eval::columns::Columns;
use crate::eval::distance::kernel::KernelDistance;
use crate::eval::distance::neighbours::Neighbours;
use crate::eval::report::ModelReport;
use crate::eval::transform::Transform;
use crate::image::Rgb8;
use crate::image::plot::{Axes, Series, lines};

/// What the features are of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeaturesReport {
    /// The distance is FID.
    Inception { path: String, sha256: String, resize: Resize },
    /// The distance is called FD.
    Encoder { model: ModelReport, transform: Transform },
}

/// A set of pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetReport {
    pub name: String,
    /// N.
    pub images: usize,
    /// Damaged pictures that were left out.
    pub bad: usize,
}

/// Distances of a generated set to the real one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    #[serde(flatten)]
    pub set: SetReport,
    /// Where all its samples tell the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f64>,
    pub frechet: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelDistance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<Neighbours>,
}

/// Everything, without times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FidReport {
    pub features: FeaturesReport,
    /// D.
    pub width: usize,
    pub real: SetReport,
    pub generated: Vec<Found>,
    /// Draws the subsets of the kernel distance.
    pub seed: u64,
    /// What a reader of the figures must know.
    pub remarks: Vec<String>,
}

impl FidReport {
    /// FID of Inception's features alone, which all other programs have; FD of any others.
    pub fn distance(&self) -> &'static str {
        match self.features {
            FeaturesReport::Inception { .. } => "FID",
            FeaturesReport::Encoder { .. } => "FD",
        }
    }

    /// The table in aligned columns.
    pub fn text(&self) -> String {
        self.columns().text()
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        self.columns().markdown()
    }

    fn columns(&self) -> Columns {
        let features = match &self.features {
            FeaturesReport::Inception { path, resize, .. } => {
                let resize = match resize {
                    Resize::PytorchFid => "pytorch-fid",
                    Resize::CleanFid => "clean-fid",
                };
                format!("Inception, {path}; resized as {resize} does")
            }
            FeaturesReport::Encoder { model, .. } => {
                format!("{}, {}; no Inception, so the distance is FD, not FID", model.source, model.description)
            }
        };
        let header = ["set", "w", "N", self.distance(), "KID", "±", "precision", "recall", "density", "coverage"];
        let cells = |found: &Found| {
            let (kernel, neighbours) = (found.kernel, found.neighbours);
            let share = |of: fn(&Neighbours) -> f64| neighbours.as_ref().map(|found| format!("{:.4}", of(found)));
            let cells = [
                Some(found.set.name.clone()),
                found.guidance_scale.map(|w| w.to_string()),
                Some(found.set.images.to_string()),
                Some(format!("{:.4}", found.frechet)),
                kernel.map(|found| format!("{:.6}", found.mean)),
                kernel.map(|found| format!("{:.6}", found.std)),
                share(|found| found.precision),
                share(|found| found.recall),
                share(|found| found.density),
                share(|found| found.coverage),
            ];
            cells.map(Option::unwrap_or_default).to_vec()
        };
        let rows: Vec<Vec<String>> = self.generated.iter().map(cells).collect();
        // A column that nothing is in is left out.
        let kept: Vec<usize> = (0..header.len()).filter(|&i| rows.iter().any(|row| !row[i].is_empty())).collect();
        let keep = |row: &[String]| kept.iter().map(|&i| row[i].clone()).collect();
        let bad = if self.real.bad == 0 { String::new() } else { format!(", {} damaged left out", self.real.bad) };
        Columns {
            heading: vec![
                ("features", features),
                ("real", format!("{} (N = {}{bad})", self.real.name, self.real.images)),
            ],
            header: keep(&header.map(String::from)),
            rows: rows.iter().map(|row| keep(row)).collect(),
            footnotes: self.remarks.clone(),
        }
    }

    /// The distance over the guidance scale, where there are two scales or more.
    pub fn curve(&self) -> Option<Rgb8> {
        let point = |found: &Found| Some((found.guidance_scale?, found.frechet));
        let mut points: Vec<(f64, f64)> = self.generated.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if points.first()?.0 == points.last()?.0 {
            return None;
        }
        let counts = || self.generated.iter().map(|found| found.set.images);
        let (least, most) = (counts().min()?, counts().max()?);
        let counts = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let distance = self.distance();
        let title = format!("{distance} to {} real pictures, of {counts} generated ones each", self.real.images);
        let series = [Series { name: distance.into(), points }];
        Some(lines(&series, &title, Axes { x: "guidance scale w", y: distance }))
    }
}
