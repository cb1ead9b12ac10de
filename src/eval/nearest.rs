//! The training pictures that an encoder takes for most like a given one, and what their samples say of them.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::dataset::Dataset;
use super::encoder::{Encoder, ModelSource, Placement, feature_memory};
use super::evaluator::take;
use super::features::{BATCH, extract_all};
use super::knn;
use super::report::{DataReport, ModelReport, write_json};
use super::transform::{Fit, Transform};
use crate::bail;
use crate::config::json;
use crate::device::Plan;
use crate::error::Result;
use crate::image::Rgb8;
use crate::say;

/// Which pictures are looked for among which.
#[derive(Clone, Debug)]
pub struct NearestConfig {
    pub model: ModelSource,
    pub placement: Placement,
    pub fit: Option<Fit>,
    /// Short side before the crop.
    pub resize: Option<usize>,
    /// JPEG or PNG files whose neighbours are wanted.
    pub pictures: Vec<PathBuf>,
    /// What they are looked for in, each as [`Dataset::open_pictures`] takes it.
    pub data: Vec<PathBuf>,
    /// Neighbours of each picture.
    pub top: usize,
}

/// One neighbour of one picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    pub picture: String,
    /// Counted from 1.
    pub rank: usize,
    /// Of the features of both.
    pub cosine: f32,
    /// Shard and key, or the file.
    pub found: String,
    pub caption: Option<String>,
    pub seed: Option<u64>,
    /// SHA-256 of the model that drew it.
    pub model: Option<String>,
    /// The command that draws it again, where its sample tells how.
    pub again: Option<String>,
    #[serde(skip)]
    set: usize,
    #[serde(skip)]
    index: usize,
}

/// A sample that tells how it was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnSample {
    pub shard: PathBuf,
    pub key: String,
    /// `f32`, `f16` or `bf16`.
    pub precision: String,
}

/// What was looked for, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearestReport {
    pub model: ModelReport,
    pub transform: Transform,
    pub data: Vec<DataReport>,
    /// Of each picture in turn, the nearest first.
    pub nearest: Vec<Neighbour>,
}

/// The same with the pictures, to be looked at.
#[derive(Debug)]
pub struct Found {
    pub report: NearestReport,
    sets: Vec<Dataset>,
}

impl Found {
    /// The picture of a neighbour.
    ///
    /// # Errors
    /// `Data` or `Io` naming it, when it has become unreadable.
    pub fn image(&self, neighbour: &Neighbour) -> Result<Rgb8> {
        self.sets[neighbour.set].image(neighbour.index)
    }
}

impl NearestReport {
    /// Writes the report as JSON, whole or not at all.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn write(&self, path: &std::path::Path) -> Result<()> {
        write_json(self, path)
    }
}

/// Opens encoder and pictures and finds the `top` neighbours of every picture by the cosine of features; `again` writes
/// the command that draws a sample again. Features of the data are kept and found where `placement` says.
///
/// # Errors
/// `Usage` for settings that cannot be run; `Data` or `Io` naming the picture that cannot be read, for here none is
/// left out; `Diverged` when features are not finite; `Interrupted` on a signal.
pub fn find(config: &NearestConfig, again: impl Fn(&DrawnSample) -> String) -> Result<Found> {
    let encoder = Encoder::placed(&config.model, &config.placement)?;
    let side = encoder.vit().config().image_size;
    let transform = Transform::new(side, config.fit, config.resize, encoder.preprocessing())?;
    let asked = config.pictures.len();
    let pictures = Dataset::of_files("pictures".into(), config.pictures.clone(), vec![0; asked], vec!["".into()]);
    let sets: Vec<Dataset> = config.data.iter().map(|path| Dataset::open_pictures(path)).collect::<Result<_>>()?;
    for set in &sets {
        set.notes().iter().for_each(|note| say!("note: {note}"));
        if let [first, ..] = set.defects() {
            bail!(Data, "{}: {} problem(s), first: {first}", set.name(), set.defects().len());
        }
    }
    let memory = plan(&encoder, asked, sets.iter().map(Dataset::len).sum(), config.top);
    memory.check("look in fewer shards, or take a smaller encoder")?;
    say!("{memory}");
    let wanted = extract_all(&encoder, &pictures, transform, "features of the pictures")?;
    let mut features = Vec::new();
    for set in &sets {
        features.append(&mut extract_all(&encoder, set, transform, &format!("features of {}", set.name()))?);
    }
    let width = encoder.vit().config().width;
    let near = knn::nearest(&features, &wanted, width, config.top, <[_]>::to_vec)?;
    let mut nearest = Vec::with_capacity(asked * config.top);
    for (picture, near) in near.iter().enumerate() {
        for (rank, &(cosine, row)) in near.iter().enumerate() {
            let mut neighbour = tell(&sets, row, &again)?;
            (neighbour.picture, neighbour.rank, neighbour.cosine) = (pictures.describe(picture), rank + 1, cosine);
            nearest.push(neighbour);
        }
    }
    let data = sets.iter().map(DataReport::of).collect();
    Ok(Found { report: NearestReport { model: ModelReport::of(&encoder), transform, data, nearest }, sets })
}

/// What there is to say of picture `row` of all `sets` one behind the other.
fn tell(sets: &[Dataset], row: usize, again: impl Fn(&DrawnSample) -> String) -> Result<Neighbour> {
    let (mut set, mut index) = (0, row);
    while index >= sets[set].len() {
        index -= sets[set].len();
        set += 1;
    }
    let mut told = Neighbour {
        picture: String::new(),
        rank: 0,
        cosine: 0.0,
        found: sets[set].describe(index),
        caption: None,
        seed: None,
        model: None,
        again: None,
        set,
        index,
    };
    let Some(sample) = sets[set].sample(index)? else { return Ok(told) };
    told.caption = sample.record()?.caption.ok();
    // What other programs write there is theirs: what cannot be read tells nothing.
    let record = sample.read("json")?.and_then(|bytes| json::parse_note::<Value>(&bytes).ok()).unwrap_or_default();
    let text = |key: &str| record[key].as_str().map(str::to_owned);
    (told.seed, told.model) = (record["seed"].as_u64(), text("model_sha256"));
    if told.seed.is_some() && told.model.is_some() && text("initial_noise_sha256").is_none() {
        let (shard, key) = (sample.path().to_owned(), sample.key().to_owned());
        let precision = text("precision").unwrap_or_else(|| "f32".into());
        told.again = Some(again(&DrawnSample { shard, key, precision }));
    }
    Ok(told)
}

/// What is held beside encoder and pictures.
fn plan(encoder: &Encoder, asked: usize, all: usize, top: usize) -> Plan {
    let (mut plan, config) = (Plan::dry(), encoder.vit().config());
    for (name, pictures) in [("pictures", asked), ("data", all)] {
        take(&mut plan, "features", name, &[pictures, config.width]);
        take(&mut plan, "features of length 1", name, &[pictures, config.width]);
    }
    take(&mut plan, "neighbours", "cosines and places", &[asked, top.min(all), 4]);
    if !encoder.is_on_gpu() {
        let images = BATCH.min(all.max(asked));
        take(&mut plan, "encoder", "pixels", &[images, config.image_len()]);
        feature_memory(&mut plan, encoder.vit(), images);
    }
    plan
}
