//! What was found: `report.json` and a table.

use serde::Serialize;

use super::scores::Scores;
use crate::eval::columns::Columns;
use crate::eval::report::ModelReport;
use crate::eval::transform::Transform;

/// Captions that are named in the table; `report.json` has all.
const NAMED: usize = 10;

/// A caption whose pictures are near-copies of each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Near {
    pub caption: String,
    pub pictures: usize,
    /// Mean over their pairs.
    pub cosine: f64,
}

/// Scores of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetScores {
    pub name: String,
    /// Where all its samples tell the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f64>,
    /// N.
    pub images: usize,
    /// Damaged pictures that were left out.
    pub bad: usize,
    #[serde(flatten)]
    pub scores: Scores,
    /// Captions above the limit, the nearest first.
    pub near: Vec<Near>,
}

/// Everything, without times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiversityReport {
    pub model: ModelReport,
    pub transform: Transform,
    /// Mean cosine above which the pictures of a caption are near-copies.
    pub near_above: f64,
    pub sets: Vec<SetScores>,
    /// What a reader of the figures must know.
    pub remarks: Vec<String>,
}

impl DiversityReport {
    /// The table in aligned columns.
    pub fn text(&self) -> String {
        self.columns().text()
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        self.columns().markdown()
    }

    fn columns(&self) -> Columns {
        let header =
            ["set", "w", "captions", "N", "within", "between", "Vendi", "alignment", "uniformity", "near-copies"];
        let cells = |set: &SetScores| {
            let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
            let scores = &set.scores;
            let cells = [
                set.name.clone(),
                set.guidance_scale.map_or_else(|| "-".into(), |w| w.to_string()),
                scores.captions.to_string(),
                set.images.to_string(),
                number(scores.within),
                number(scores.between),
                format!("{:.2}", scores.vendi),
                number(scores.alignment),
                number(scores.uniformity),
                set.near.len().to_string(),
            ];
            cells.to_vec()
        };
        let mut footnotes = vec![
            "captions: those of two pictures and more; within, between: mean cosine of two pictures of one caption, of \
             different ones; Vendi: of N at most"
                .to_string(),
        ];
        for set in &self.sets {
            for near in set.near.iter().take(NAMED) {
                footnotes.push(format!(
                    "near-copies in {}: {:?} ({} pictures, cosine {:.4})",
                    set.name, near.caption, near.pictures, near.cosine
                ));
            }
            if set.near.len() > NAMED {
                footnotes.push(format!("near-copies in {}: … and {} captions more", set.name, set.near.len() - NAMED));
            }
        }
        footnotes.extend_from_slice(&self.remarks);
        Columns {
            heading: vec![("encoder", format!("{}, {}", self.model.source, self.model.description))],
            header: header.map(String::from).to_vec(),
            rows: self.sets.iter().map(cells).collect(),
            footnotes,
        }
    }
}
