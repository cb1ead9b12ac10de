//! Zero-shot classification of labelled photographs by the names of their classes, as open_clip and LaCLIP score
//! ImageNet.

mod classes;
pub mod fairface;

use serde::Serialize;

pub use classes::{ClassScores, Scored};

use crate::error::Result;
use crate::eval::dataset::{Dataset, Split};
use crate::eval::language::{LanguageJob, LanguageReport, OpenTokenizer, Prompts, Shown, class_names, spoken};
use crate::eval::settings::DataSource;
use crate::{bail, say};

/// Which names and sentences.
#[derive(Clone, Debug, Default)]
pub struct ZeroShotConfig {
    /// A file with the names of the classes.
    pub class_names: Option<std::path::PathBuf>,
    /// Sentences with `{}` where a name goes; CLIP's simplest where there are none.
    pub templates: Vec<String>,
}

/// What is found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ZeroShotScores {
    /// The sentences.
    pub templates: Vec<String>,
    #[serde(flatten)]
    pub scores: ClassScores,
}

/// Classifies the photographs of `source` by the names of their classes.
///
/// # Errors
/// `Usage` when classes are numbers and no names are given; errors of model, names and pictures.
pub fn zero_shot(
    job: &LanguageJob,
    source: &DataSource,
    config: &ZeroShotConfig,
    open: OpenTokenizer<'_>,
) -> Result<LanguageReport<ZeroShotScores>> {
    let mut place = job.place("zero-shot", &[&source.path])?;
    let images = Dataset::open(&source.path, source.labels.as_deref(), Split::Test)?;
    images.notes().iter().for_each(|note| say!("note: {note}"));
    let model = job.model(open)?;
    place.take()?;
    let names = match &config.class_names {
        Some(path) => class_names("--class-names", path, images.classes())?,
        None => match spoken(images.class_names()) {
            Some(names) => names,
            None => bail!(
                Usage,
                "{}: its {} classes are numbers; give their names, --class-names FILE with a line each, in the order of the labels",
                images.name(),
                images.classes()
            ),
        },
    };
    let prompts = Prompts::new(&names, &config.templates, model.tokenizer())?;
    say!("zero-shot: {} classes, {} texts", names.len(), prompts.count());
    let pictures = job.pictures(&model, images)?;
    let features = job.features(&model, &pictures)?;
    let alike = prompts.compare(&model.space(), &features)?;
    let names: Vec<String> = names.into_iter().map(|names| names.join(", ")).collect();
    let scores = ClassScores::of(&alike, pictures.images.labels(), names);
    let templates = prompts.templates().to_vec();
    job.report(&place, &model, &pictures, ZeroShotScores { templates, scores })
}

impl Shown for ZeroShotScores {
    fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        self.scores.rows()
    }

    fn footnotes(&self) -> Vec<String> {
        vec![format!("{} sentence(s) a name, such as {:?}.", self.templates.len(), self.templates[0])]
    }
}
