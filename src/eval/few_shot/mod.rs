//! Few-shot classification on frozen features: the mean score of many episodes.

pub mod episode;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use self::episode::{Pools, Protocol, Sizes};
use crate::bail;
use crate::device::Plan;
use crate::error::Result;
use crate::eval::dataset::Dataset;
use crate::eval::dataset::published::{Layout, Metric, Part, Published};
use crate::eval::encoder::{Encoder, ModelSource, Placement};
use crate::eval::evaluator::take;
use crate::eval::features::extract_all;
use crate::eval::place::Place;
use crate::eval::report::ModelReport;
use crate::eval::rows::table;
use crate::eval::screen::screen;
use crate::eval::transfer::transform;
use crate::eval::transform::{Fit, Transform};
use crate::metrics::Progress;
use crate::rng::{Domain, Stream};
use crate::say;
use crate::store;

/// Episodes between two looks at whether a signal came.
const BATCH: usize = 256;

/// A run of `stablerep eval few-shot`.
#[derive(Debug)]
pub struct FewShotConfig {
    pub model: ModelSource,
    pub placement: Placement,
    pub data: Vec<(&'static Layout, PathBuf)>,
    /// Damaged images of a data set that are left out; one more is an error.
    pub max_bad: usize,
    pub fit: Option<Fit>,
    pub resize: Option<usize>,
    pub protocol: Protocol,
    pub sizes: Sizes,
    pub episodes: usize,
    pub seed: u64,
    pub output: PathBuf,
}

/// Everything that was found and under which settings, without times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FewShotReport {
    pub model: ModelReport,
    pub transform: Transform,
    pub protocol: Protocol,
    #[serde(flatten)]
    pub sizes: Sizes,
    pub episodes: usize,
    pub seed: u64,
    pub data: Vec<DataScore>,
    /// The mean over the data sets, where there are several.
    pub mean: Option<f64>,
}

/// One data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataScore {
    pub name: String,
    pub images: usize,
    pub classes: usize,
    /// Damaged images that were left out.
    pub bad: usize,
    /// Images that one class has left to tell apart, where that is fewer than the queries asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fewest: Option<usize>,
    #[serde(flatten)]
    pub score: Score,
}

/// The mean of the episodes' scores, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Percent.
    pub mean: f64,
    /// 1.96 standard deviations of the mean, from that of the episodes over their number.
    pub interval: f64,
}

/// Scores the encoder on every data set and writes `report.json`.
///
/// # Errors
/// `Usage` for settings and folders that cannot be used, `Data` or `Io` naming the file or the class of too few images,
/// `Diverged` for features that are not finite, `Interrupted` on a signal.
pub fn few_shot(config: &FewShotConfig) -> Result<FewShotReport> {
    let Sizes { ways, shots, queries } = config.sizes;
    for (flag, value, least) in
        [("--ways", ways, 2), ("--shots", shots, 1), ("--queries", queries, 1), ("--episodes", config.episodes, 2)]
    {
        if value < least || value > 1 << 20 {
            bail!(Usage, "{flag} {value}: expected {least} to {}", 1 << 20);
        }
    }
    if let Some((layout, _)) = config.data.iter().find(|(layout, _)| layout.metric == Metric::MeanAp) {
        bail!(Usage, "--data {}=…: its images show several things, of which an episode cannot be made", layout.name);
    }
    let read: Vec<&Path> = config.data.iter().map(|(_, root)| root.as_path()).collect();
    let features = config.placement.features.as_deref();
    let mut place = Place::of("few-shot", Some(&config.output), features, &read)?;
    let encoder = Encoder::placed(&config.model, &config.placement)?;
    let transform = transform(&encoder, config.fit, config.resize)?;
    let open = |(layout, root): &(&'static Layout, PathBuf)| Ok((layout.name, layout.open(root, config.seed)?));
    let opened = config.data.iter().map(open).collect::<Result<Vec<_>>>()?;
    place.take()?;
    let mut data = Vec::with_capacity(opened.len());
    for (name, published) in opened {
        data.push(of_data(config, &encoder, transform, name, &published)?);
    }
    let mean = data.iter().map(|data| data.score.mean).sum::<f64>() / data.len() as f64;
    let report = FewShotReport {
        model: ModelReport::of(&encoder),
        transform,
        protocol: config.protocol,
        sizes: config.sizes,
        episodes: config.episodes,
        seed: config.seed,
        mean: (data.len() > 1).then_some(mean),
        data,
    };
    place.write(&report)?;
    Ok(report)
}

fn of_data(
    config: &FewShotConfig,
    encoder: &Encoder,
    transform: Transform,
    name: &str,
    published: &Published,
) -> Result<DataScore> {
    published.images.notes().iter().for_each(|note| say!("note: {note}"));
    let mut parts = vec![published.part(Part::Train), published.part(Part::Test)];
    if !published.val.is_empty() {
        parts.push(published.part(Part::Val));
    }
    let parts = screen(parts, config.max_bad)?;
    let bad = parts.iter().map(|part| part.bad).sum();
    let parts: Vec<Dataset> = parts.into_iter().map(|part| part.images).collect();
    let (images, classes) = (parts.iter().map(Dataset::len).sum(), published.images.classes());
    let pools = pools(config.protocol, &parts, classes);
    let Sizes { ways, shots, .. } = config.sizes;
    if ways > classes {
        bail!(Usage, "--ways {ways}: {name} has {classes} classes; take fewer");
    }
    for (class, called) in published.images.class_names().iter().enumerate() {
        if let Some(lack) = pools.lacks(class, shots) {
            bail!(Data, "{name}: class {called:?} has {lack}, for --shots {shots}; take fewer, or leave {name} out");
        }
    }
    let fewest = (0..classes).map(|class| pools.left(class, shots)).min().unwrap_or(0);
    let fewest = (fewest < config.sizes.queries).then_some(fewest);
    if let Some(fewest) = fewest {
        say!(
            "note: {name}: classes with fewer than {} images left to tell apart are asked all they have, {fewest} in one",
            config.sizes.queries
        );
    }
    let width = encoder.vit().config().width;
    let mut plan = Plan::dry();
    take(&mut plan, "features", "of all images, twice while they are put together", &[2, images, width]);
    plan.check("take an encoder of smaller features, or a machine with more memory")?;
    say!("{name}: {images} images of {classes} classes\n{plan}");
    let features = parts.iter().map(|part| extract_all(encoder, part, transform, &format!("{name} images")));
    let features = features.collect::<Result<Vec<_>>>()?.concat();
    let progress = Progress::of_short_work(config.episodes as u64, &format!("{name} episodes"), ("episode", 1));
    let mut scores = Vec::with_capacity(config.episodes);
    while scores.len() < config.episodes {
        store::check_interrupt("run the same command again")?;
        let batch = scores.len()..(scores.len() + BATCH).min(config.episodes);
        let (first, count) = (scores.len(), batch.len());
        scores.par_extend((first..first + count).into_par_iter().map(|number| {
            let mut stream = Stream::new(config.seed, Domain::Episode, [number as u32, 0, 0]);
            pools.draw(config.sizes, &mut stream).score(config.protocol, &features, width)
        }));
        progress.advance(count as u64);
    }
    progress.finish();
    Ok(DataScore { name: name.to_owned(), images, classes, bad, fewest, score: Score::of(&scores) })
}

/// The rows of every class, where those of `parts` (train, test and maybe val) lie behind each other.
fn pools(protocol: Protocol, parts: &[Dataset], classes: usize) -> Pools {
    let (mut support, mut queries) = (vec![Vec::new(); classes], vec![Vec::new(); classes]);
    let mut row = 0;
    for (number, part) in parts.iter().enumerate() {
        let to_test = protocol == Protocol::Lgssl && number == 1;
        for &label in part.labels() {
            let rows = if to_test { &mut queries } else { &mut support };
            rows[label as usize].push(row);
            row += 1;
        }
    }
    match protocol {
        Protocol::SslTransfer => Pools::One(support),
        Protocol::Lgssl => Pools::Two { support, queries },
    }
}

impl Score {
    /// Of episodes' shares.
    pub fn of(shares: &[f64]) -> Self {
        let count = shares.len() as f64;
        let mean = shares.iter().sum::<f64>() / count;
        let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count;
        Self { mean: 100.0 * mean, interval: 100.0 * 1.96 * (variance / count).sqrt() }
    }
}

impl FewShotReport {
    /// The table, in Markdown or in aligned columns, under the encoder that was scored.
    pub fn text(&self, markdown: bool) -> String {
        let Sizes { ways, shots, queries } = self.sizes;
        let mut rows = vec![["data", "%", "±", "images", "classes"].map(str::to_owned).to_vec()];
        for data in &self.data {
            let Score { mean, interval } = data.score;
            let cells =
                [format!("{mean:.2}"), format!("{interval:.2}"), data.images.to_string(), data.classes.to_string()];
            rows.push([std::slice::from_ref(&data.name), &cells].concat());
        }
        if let Some(mean) = self.mean {
            let name = format!("mean of {}", self.data.len());
            rows.push(vec![name, format!("{mean:.2}"), String::new(), String::new(), String::new()]);
        }
        format!(
            "encoder   {}, {}\nepisodes  {} of {ways} classes, {shots} images each to learn from, {queries} to tell \
             apart\n{}",
            self.model.source,
            self.model.description,
            self.episodes,
            table(&rows, 1, markdown)
        )
    }
}
