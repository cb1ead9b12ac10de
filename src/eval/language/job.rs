//! What evaluations with texts are given alike, and how they report.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::model::{LanguageModel, OpenTokenizer};
use crate::error::Result;
use crate::eval::columns::Columns;
use crate::eval::dataset::Dataset;
use crate::eval::encoder::Placement;
use crate::eval::features::extract_all;
use crate::eval::place::Place;
use crate::eval::report::{DataReport, ModelReport};
use crate::eval::screen::screen;
use crate::eval::transform::{Fit, Transform};

/// The model, how pictures reach it, and where the report goes.
#[derive(Clone, Debug)]
pub struct LanguageJob {
    pub checkpoint: PathBuf,
    /// Attention heads of the encoder and of the text tower, for files that do not tell.
    pub heads: [Option<usize>; 2],
    pub placement: Placement,
    pub fit: Option<Fit>,
    pub resize: Option<usize>,
    /// Damaged pictures that are left out; one more is an error.
    pub max_bad: usize,
    /// Where `report.json` goes.
    pub output: Option<PathBuf>,
}

/// What was found, and of what. Without times, so that the same run writes the same bytes.
#[derive(Clone, Debug, Serialize)]
pub struct LanguageReport<T> {
    pub model: ModelReport,
    pub data: DataReport,
    pub transform: Transform,
    #[serde(flatten)]
    pub scores: T,
}

/// Scores that people are shown as a table.
pub trait Shown: Serialize {
    /// Header and rows; the first column is of names.
    fn rows(&self) -> (Vec<String>, Vec<Vec<String>>);

    /// What stands below.
    fn footnotes(&self) -> Vec<String>;
}

/// The pictures of a job that can be used, and how they are prepared.
#[derive(Debug)]
pub struct Pictures {
    pub images: Dataset,
    pub transform: Transform,
    bad: usize,
}

impl LanguageJob {
    /// Where `evaluation` of pictures at `read` reports; to be had before anything is opened. (Of a list of pictures
    /// the folder is not read, but what the list names.)
    ///
    /// # Errors
    /// As [`Place::of`].
    pub fn place(&self, evaluation: &'static str, read: &[&Path]) -> Result<Place> {
        Place::of(evaluation, self.output.as_deref(), self.placement.features.as_deref(), read)
    }

    /// Opens the model.
    ///
    /// # Errors
    /// As [`LanguageModel::open`].
    pub fn model(&self, open: OpenTokenizer<'_>) -> Result<LanguageModel> {
        LanguageModel::open(self.checkpoint.clone(), self.heads, &self.placement, open)
    }

    /// Looks at every one of `images` once and leaves out what is damaged.
    ///
    /// # Errors
    /// As [`screen`]; `Usage` for a way to prepare pictures that cannot be.
    pub fn pictures(&self, model: &LanguageModel, images: Dataset) -> Result<Pictures> {
        let encoder = &model.encoder;
        let side = encoder.vit().config().image_size;
        let transform = Transform::new(side, self.fit, self.resize, encoder.preprocessing())?;
        let mut screened = screen(vec![images], self.max_bad)?;
        let first = screened.remove(0);
        Ok(Pictures { images: first.images, transform, bad: first.bad })
    }

    /// Their features `[N, D]`.
    ///
    /// # Errors
    /// As [`extract_all`].
    pub fn features(&self, model: &LanguageModel, pictures: &Pictures) -> Result<Vec<f32>> {
        extract_all(&model.encoder, &pictures.images, pictures.transform, "features")
    }

    /// Reports `scores`, in a file too where there is an output folder.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn report<T: Shown>(
        &self,
        place: &Place,
        model: &LanguageModel,
        pictures: &Pictures,
        scores: T,
    ) -> Result<LanguageReport<T>> {
        let data = DataReport { bad: pictures.bad, ..DataReport::of(&pictures.images) };
        let (model, transform) = (ModelReport::of(&model.encoder), pictures.transform);
        let report = LanguageReport { model, data, transform, scores };
        place.write(&report)?;
        Ok(report)
    }
}

impl<T: Shown> LanguageReport<T> {
    /// The table, in aligned columns or in Markdown.
    pub fn text(&self, markdown: bool) -> String {
        let (header, rows) = self.scores.rows();
        let DataReport { name, images, bad, .. } = &self.data;
        let bad = if *bad == 0 { String::new() } else { format!(", {bad} damaged left out") };
        let heading = vec![
            ("encoder", format!("{}, {}", self.model.source, self.model.description)),
            ("pictures", format!("{name} ({images} pictures{bad})")),
            ("transform", self.transform.to_string()),
        ];
        let table = Columns { heading, header, rows, footnotes: self.scores.footnotes() };
        if markdown { table.markdown() } else { table.text() }
    }
}

/// `part` of `whole` in percent.
pub fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
