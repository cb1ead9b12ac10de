//! Transfer to the eleven data sets of Kornblith et al. 2019 by logistic regression on frozen features (Ericsson et al.
//! 2021, whose protocol StableRep's authors use).

mod kept;
pub mod metric;
pub mod protocol;
pub mod report;

use std::path::{Path, PathBuf};

use self::protocol::{STRENGTHS, Task, Truth};
use self::report::{DataScore, TransferReport, means};
use crate::bail;
use crate::device::Plan;
use crate::error::Result;
use crate::eval::dataset::Dataset;
use crate::eval::dataset::published::{Layout, Metric, Part, Published};
use crate::eval::encoder::{Encoder, ModelSource, Placement};
use crate::eval::evaluator::take;
use crate::eval::features::extract_all;
use crate::eval::logistic::lbfgs::Limits;
use crate::eval::logistic::{COLUMNS, LIMITS, first_look};
use crate::eval::place::Place;
use crate::eval::report::ModelReport;
use crate::eval::screen::{screen, warn_of_shared};
use crate::eval::transform::{Fit, Transform};
use crate::image::Filter;
use crate::metrics::Progress;
use crate::rng::{Domain, Stream};
use crate::say;

/// A run of `stablerep eval transfer`.
#[derive(Debug)]
pub struct TransferConfig {
    pub model: ModelSource,
    pub placement: Placement,
    pub data: Vec<(&'static Layout, PathBuf)>,
    /// Damaged images of a data set that are left out; one more is an error.
    pub max_bad: usize,
    pub fit: Option<Fit>,
    pub resize: Option<usize>,
    pub max_iterations: usize,
    pub seed: u64,
    pub output: PathBuf,
}

/// Scores the encoder on every data set. What is finished is kept in the output folder and not done again;
/// `report.json` is written when all is there.
///
/// # Errors
/// `Usage` for settings and folders that cannot be used, `Data` or `Io` naming the file, `Diverged` for features that
/// are not finite, `Interrupted` on a signal.
pub fn transfer(config: &TransferConfig) -> Result<TransferReport> {
    let read: Vec<&Path> = config.data.iter().map(|(_, root)| root.as_path()).collect();
    let features = config.placement.features.as_deref();
    let mut place = Place::of("transfer", Some(&config.output), features, &read)?;
    let encoder = Encoder::placed(&config.model, &config.placement)?;
    let transform = transform(&encoder, config.fit, config.resize)?;
    // All are opened before the first is worked on: a wrong folder is found at once.
    let open = |(layout, root): &(&'static Layout, PathBuf)| Ok((*layout, layout.open(root, config.seed)?));
    let opened = config.data.iter().map(open).collect::<Result<Vec<_>>>()?;
    place.take()?;
    let mut data = Vec::with_capacity(opened.len());
    for (layout, published) in opened {
        data.push(of_data(config, &encoder, transform, layout, &published)?);
    }
    let [mean_of_11, mean_of_9] = means(&data);
    let report = TransferReport {
        model: ModelReport::of(&encoder),
        transform,
        seed: config.seed,
        max_iterations: config.max_iterations,
        data,
        mean_of_11,
        mean_of_9,
    };
    place.write(&report)?;
    Ok(report)
}

/// The short side to the encoder's, by Pillow's bicubic filter, and the middle of it, where nothing else is asked for.
///
/// # Errors
/// As [`Transform::new`].
pub fn transform(encoder: &Encoder, fit: Option<Fit>, resize: Option<usize>) -> Result<Transform> {
    let side = encoder.vit().config().image_size;
    let fit = fit.unwrap_or(Fit::Crop);
    let resize = resize.or((fit == Fit::Crop).then_some(side));
    Ok(Transform { filter: Filter::Bicubic, ..Transform::new(side, Some(fit), resize, None)? })
}

/// One data set: what is kept of it, or what it gives.
fn of_data(
    config: &TransferConfig,
    encoder: &Encoder,
    transform: Transform,
    layout: &Layout,
    published: &Published,
) -> Result<DataScore> {
    let name = layout.name;
    published.images.notes().iter().for_each(|note| say!("note: {note}"));
    let mut parts = vec![published.part(Part::Train), published.part(Part::Test)];
    if !published.val.is_empty() {
        parts.push(published.part(Part::Val));
    }
    let parts = screen(parts, config.max_bad)?;
    let key = kept::key(encoder, transform, config.seed, config.max_iterations, &parts)?;
    if let Some(kept) = kept::read(&config.output, name, &key)? {
        say!("{name}: kept from an earlier run");
        return Ok(kept);
    }
    warn_of_shared(&parts[0], &parts[1]);
    let bad = parts.iter().map(|part| part.bad).sum();
    let mut parts = parts.into_iter().map(|part| part.images);
    let (Some(train), Some(test)) = (parts.next(), parts.next()) else {
        bail!(Data, "{name}: expected images to train on and images to test");
    };
    let (train, val) = match parts.next() {
        Some(val) => (train, val),
        None => a_fifth(&train, config.seed)?,
    };
    let (width, classes) = (encoder.vit().config().width, published.things.as_ref().map_or(train.classes(), Vec::len));
    let plan = plan([train.len(), val.len(), test.len()], classes, width);
    plan.check("take an encoder of smaller features, or a machine with more memory")?;
    say!("{name}: {} images to train, {} to validate, {} to test\n{plan}", train.len(), val.len(), test.len());
    let parts = [&train, &val, &test];
    let task = Task {
        name: published.images.name().to_owned(),
        width,
        features: [
            extract_all(encoder, &train, transform, &format!("{name} train"))?,
            extract_all(encoder, &val, transform, &format!("{name} val"))?,
            extract_all(encoder, &test, transform, &format!("{name} test"))?,
        ],
        truth: truth(parts, published, layout.metric),
    };
    let progress = Progress::bar(STRENGTHS as u64, &format!("{name} strengths"), ("strength", 1));
    let limits = Limits { iterations: config.max_iterations, ..LIMITS };
    let found = task.run(limits, |strengths| progress.advance(strengths as u64))?;
    progress.finish();
    let score = DataScore::new(name, layout.metric, parts.map(Dataset::len), classes, bad, &found);
    kept::write(&config.output, &key, &score)?;
    Ok(score)
}

/// `images` without a fifth of them, rounded down, and that fifth: the first of a permutation.
fn a_fifth(images: &Dataset, seed: u64) -> Result<(Dataset, Dataset)> {
    let mut order: Vec<usize> = (0..images.len()).collect();
    Stream::new(seed, Domain::Parts, [0, 0, 0]).shuffle(&mut order);
    let (val, train) = order.split_at_mut(images.len() / 5);
    if val.is_empty() {
        bail!(Data, "{}: {} images, expected five at least, to hold out a fifth", images.name(), images.len());
    }
    val.sort_unstable();
    train.sort_unstable();
    let part = |indices: &[usize], what| images.part(indices, format!("{}, {what}", images.name()));
    Ok((part(train, "four fifths"), part(val, "a fifth")))
}

/// What the images of the parts are.
fn truth(parts: [&Dataset; 3], published: &Published, metric: Metric) -> Truth {
    let Some(things) = &published.things else {
        let labels = parts.map(|part| part.labels().to_vec());
        return Truth::Classes { labels, mean_per_class: metric == Metric::MeanPerClass };
    };
    let shows = |images: &Dataset, thing: usize| {
        let sets = images.class_names();
        images.labels().iter().map(|&set| sets[set as usize].as_bytes()[thing] == b'1').collect::<Vec<bool>>()
    };
    let of = |(i, name): (usize, &String)| (name.clone(), parts.map(|part| shows(part, i)));
    Truth::Things(things.iter().enumerate().map(of).collect())
}

/// What is held beside the encoder.
fn plan([train, val, test]: [usize; 3], classes: usize, width: usize) -> Plan {
    let mut plan = Plan::dry();
    take(&mut plan, "features", "train, val, test", &[train + val + test, width]);
    take(&mut plan, "features", "train and val", &[train + val, width]);
    // f64 takes two.
    let columns = classes.max(COLUMNS);
    take(&mut plan, "regression", "standardised features", &[2, train + val, width]);
    take(&mut plan, "regression", "standardised features to be scored", &[2, val.max(test), width]);
    take(&mut plan, "regression", "covariance and its basis", &[2, 3, width, width]);
    take(&mut plan, "regression", "steps and gradients", &[2, 28, width + 1, columns]);
    let looks = if first_look(width, classes).is_some() { (COLUMNS / classes).clamp(1, STRENGTHS) } else { 0 };
    take(&mut plan, "regression", "second derivatives", &[2, looks, width + 1, width + 1]);
    take(&mut plan, "regression", "classifiers", &[2, STRENGTHS, width + 1, classes]);
    plan
}
