//! A trained encoder to scores.

mod ahead;
pub mod attention;
#[cfg(cuda_kernels)]
mod card;
pub mod columns;
pub mod dataset;
pub mod distance;
pub mod diversity;
mod drawn;
pub mod encoder;
pub mod evaluator;
pub mod features;
pub mod few_shot;
pub mod fid;
pub mod heads;
mod kept;
pub mod knn;
pub mod language;
pub mod linear_probe;
pub mod logistic;
mod memory;
pub mod nearest;
pub mod pairs;
pub mod place;
pub mod report;
pub mod rows;
pub mod screen;
pub mod segment;
mod settings;
mod stop;
pub mod timm;
pub mod transfer;
pub mod transform;
pub mod zero_shot;

use std::path::Path;

use self::dataset::{Dataset, Split};
use self::encoder::Encoder;
use self::evaluator::{Sizes, Task};
use self::features::extract_all;
use self::linear_probe::StateFile;
use self::report::{DataReport, ModelReport, ProbeReport};
use self::screen::Screened;
pub use self::settings::{DataSource, ProbeConfig, ProbeSettings, TestSource};
use crate::bail;
use crate::error::Result;
use crate::say;

/// Opens encoder and data, looks at every photograph once ([`screen::screen`]), measures, and writes `report.json` when
/// there is an output folder.
///
/// # Errors
/// `Usage` for settings that cannot be run (before anything is read), `Data` or `Io` naming the file, `Diverged` when
/// features or losses are not finite, `Interrupted` on a signal.
pub fn probe(config: &ProbeConfig) -> Result<ProbeReport> {
    config.settings.check()?;
    if let TestSource::HeldOut(share) = config.test
        && !(0.0 < share && share < 1.0)
    {
        bail!(Usage, "--holdout {share}: expected a share of the training images between 0 and 1, such as 0.2");
    }
    let mut place = config.place()?;
    let encoder = Encoder::open(&config.model)?.on(config.placement.device)?;
    // What cannot be done is said before every photograph is looked at.
    config.settings.transform(&encoder)?;
    let (train, test) = photographs(&config.train, &config.test, config.max_bad, config.settings.seed)?;
    place.take()?;
    let encoder = encoder.keeping(config.placement.features.clone())?;
    let bad = (train.bad, test.bad);
    let output = config.output.as_deref();
    let mut report = probe_encoder(&config.settings, &encoder, &train.images, test.images, output)?;
    (report.train.bad, report.test.bad) = bad;
    place.write(&report)?;
    output.map_or(Ok(()), StateFile::remove)?;
    Ok(report)
}

/// Training images and test images; of both together `max_bad` at most were damaged and left out. What is held out,
/// `seed` draws.
///
/// # Errors
/// As [`Dataset::open`] and [`screen::screen`].
pub fn photographs(train: &DataSource, test: &TestSource, max_bad: usize, seed: u64) -> Result<(Screened, Screened)> {
    let open = |source: &DataSource, split| Dataset::open(&source.path, source.labels.as_deref(), split);
    let mut sets = vec![open(train, Split::Train)?];
    let tested = test;
    if let TestSource::Images(source) = tested {
        let mut test = open(source, Split::Test)?;
        test.match_classes(&sets[0])?;
        sets.push(test);
    }
    sets.iter().flat_map(Dataset::notes).for_each(|note| say!("note: {note}"));
    let mut sets = screen::screen(sets, max_bad)?.into_iter();
    let Some(train) = sets.next() else { bail!(Usage, "--train: expected labelled images") };
    let (train, test) = match (tested, sets.next()) {
        (TestSource::HeldOut(share), _) => {
            let (rest, held_out) = train.divide(*share, seed)?;
            (Screened { bad: train.bad, ..rest }, held_out)
        }
        (TestSource::Images(_), Some(test)) => (train, test),
        (TestSource::Images(_), None) => bail!(Usage, "--test: expected labelled images"),
    };
    screen::warn_of_shared(&train, &test);
    if train.images.classes() == 1 {
        say!("warning: {}: one class only: every figure will be 100 %", train.images.name());
    }
    Ok((train, test))
}

/// The same with everything in memory; what is kept on the way is in `output`.
///
/// # Errors
/// As [`probe`].
pub fn probe_encoder(
    settings: &ProbeSettings,
    encoder: &Encoder,
    train: &Dataset,
    mut test: Dataset,
    output: Option<&Path>,
) -> Result<ProbeReport> {
    settings.check()?;
    test.match_classes(train)?;
    let transform = settings.transform(encoder)?;
    let (evaluators, width) = (settings.evaluators(), encoder.vit().config().width);
    let sizes =
        Sizes { train: train.len(), test: test.len(), classes: train.classes(), width, on_gpu: encoder.is_on_gpu() };
    let plan = memory::plan(&evaluators, encoder.vit(), sizes);
    plan.check(memory::SMALLER)?;
    say!("{plan}");
    let test_features = extract_all(encoder, &test, transform, "test features")?;
    let train_features = if evaluators.iter().any(|evaluator| evaluator.reads_train_features()) {
        extract_all(encoder, train, transform, "train features")?
    } else {
        Vec::new()
    };
    let task = Task {
        encoder,
        train,
        train_features: &train_features,
        test: &test,
        test_features: &test_features,
        transform,
        seed: settings.seed,
        output,
    };
    Ok(ProbeReport {
        model: ModelReport::of(encoder),
        train: DataReport::of(train),
        test: DataReport::of(&test),
        transform,
        settings: settings.clone(),
        scores: evaluators.into_iter().map(|evaluator| evaluator.run(&task)).collect::<Result<_>>()?,
    })
}
