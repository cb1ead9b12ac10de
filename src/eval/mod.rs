//! A trained encoder to scores.

pub mod dataset;
pub mod encoder;
pub mod features;
pub mod heads;
pub mod knn;
pub mod linear_probe;
mod memory;
pub mod report;
pub mod screen;
mod settings;
mod stop;
pub mod timm;
pub mod transform;

use std::fs;

use self::dataset::{Dataset, Split};
use self::encoder::Encoder;
use self::features::{Preparation, extract, extract_all};
use self::knn::{KnnConfig, KnnReport};
use self::linear_probe::{Augmentation, LinearConfig, LinearReport, ProbeData};
use self::report::{DataReport, ModelReport, ProbeReport};
pub use self::settings::{DataSource, ProbeConfig, ProbeSettings, TestSource};
use self::transform::Transform;
use crate::bail;
use crate::error::Result;
use crate::say;
use crate::store;

/// Opens encoder and data, looks at every photograph once ([`screen::screen`]), measures, and writes `report.json` when
/// there is an output folder.
///
/// # Errors
/// `Usage` for settings that cannot be run (before anything is read), `Data` or `Io` naming the file, `Diverged` when features or
/// losses are not finite, `Interrupted` on a signal.
pub fn probe(config: &ProbeConfig) -> Result<ProbeReport> {
    config.settings.check()?;
    if let TestSource::HeldOut(share) = config.test
        && !(0.0 < share && share < 1.0)
    {
        bail!(Usage, "--holdout {share}: expected a share of the training images between 0 and 1, such as 0.2");
    }
    let encoder = Encoder::open(&config.model)?;
    // What cannot be done is said before every photograph is looked at.
    config.settings.transform(&encoder)?;
    let (train, test, bad) = photographs(config)?;
    // Made before the work, not after it, to know whether it can be.
    let new = config.output.as_deref().filter(|folder| !folder.exists());
    config.output.as_deref().map_or(Ok(()), store::create_dir)?;
    let measured = probe_encoder(&config.settings, &encoder, &train, test);
    if let (Err(_), Some(folder)) = (&measured, new) {
        // Nothing came of it; what cannot be removed is empty.
        let _ = fs::remove_dir(folder);
    }
    let mut report = measured?;
    (report.train.bad, report.test.bad) = bad;
    if let Some(folder) = &config.output {
        report.write(&folder.join("report.json"))?;
    }
    Ok(report)
}

/// Training images, test images, and how many of each were damaged and left out.
fn photographs(config: &ProbeConfig) -> Result<(Dataset, Dataset, (usize, usize))> {
    let open = |source: &DataSource, split| Dataset::open(&source.path, source.labels.as_deref(), split);
    let mut sets = vec![open(&config.train, Split::Train)?];
    if let TestSource::Images(source) = &config.test {
        let mut test = open(source, Split::Test)?;
        test.match_classes(&sets[0])?;
        sets.push(test);
    }
    sets.iter().flat_map(Dataset::notes).for_each(|note| say!("note: {note}"));
    let mut sets = screen::screen(sets, config.max_bad)?.into_iter();
    let Some(train) = sets.next() else { bail!(Usage, "--train: expected labelled images") };
    let (train, test, bad) = match (&config.test, sets.next()) {
        (TestSource::HeldOut(share), _) => {
            let (rest, held_out) = train.divide(*share, config.settings.seed)?;
            (rest, held_out, (train.bad, 0))
        }
        (TestSource::Images(_), Some(test)) => {
            let bad = (train.bad, test.bad);
            (train, test, bad)
        }
        (TestSource::Images(_), None) => bail!(Usage, "--test: expected labelled images"),
    };
    screen::warn_of_shared(&train, &test);
    if train.images.classes() == 1 {
        say!("warning: {}: one class only: every figure will be 100 %", train.images.name());
    }
    Ok((train.images, test.images, bad))
}

/// The same with everything in memory.
///
/// # Errors
/// As [`probe`].
pub fn probe_encoder(
    settings: &ProbeSettings,
    encoder: &Encoder,
    train: &Dataset,
    mut test: Dataset,
) -> Result<ProbeReport> {
    settings.check()?;
    test.match_classes(train)?;
    let transform = settings.transform(encoder)?;
    let sizes = memory::Sizes { train: train.len(), test: test.len(), classes: train.classes() };
    let plan = memory::plan(settings, encoder.vit(), sizes);
    plan.check(memory::SMALLER)?;
    say!("{plan}");
    let test_features = extract_all(encoder, &test, transform, "test features")?;
    let frozen = settings.linear.as_ref().is_some_and(|linear| linear.augmentation == Augmentation::None);
    let train_features = if settings.knn.is_some() || frozen {
        extract_all(encoder, train, transform, "train features")?
    } else {
        Vec::new()
    };
    let task =
        Task { encoder, train, train_features: &train_features, test: &test, test_features: &test_features, transform };
    Ok(ProbeReport {
        model: ModelReport::of(encoder),
        train: DataReport::of(train),
        test: DataReport::of(&test),
        transform,
        settings: settings.clone(),
        linear: match &settings.linear {
            Some(linear) => task.linear(linear, settings.seed)?,
            None => Vec::new(),
        },
        knn: settings.knn.as_ref().map(|knn| task.knn(knn)).transpose()?,
    })
}

/// Encoder, photographs and their features.
struct Task<'a> {
    encoder: &'a Encoder,
    train: &'a Dataset,
    /// Under the test transform; empty when nobody needs them.
    train_features: &'a [f32],
    test: &'a Dataset,
    test_features: &'a [f32],
    transform: Transform,
}

impl Task<'_> {
    fn linear(&self, config: &LinearConfig, seed: u64) -> Result<Vec<LinearReport>> {
        let width = self.encoder.vit().config().width;
        let under_test_transform = |indices: &[usize], out: &mut [f32]| match config.augmentation {
            Augmentation::None => {
                for (out, &index) in out.chunks_exact_mut(width).zip(indices) {
                    out.copy_from_slice(&self.train_features[index * width..(index + 1) * width]);
                }
                Ok(())
            }
            Augmentation::CropFlip => {
                extract(out, self.encoder, self.train, indices, Preparation::Test(self.transform), |_| ())
            }
        };
        let val_features = |indices: &[usize]| {
            let mut out = vec![0.0; indices.len() * width];
            under_test_transform(indices, &mut out).map(|()| out)
        };
        let mut source = |epoch: usize, indices: &[usize], out: &mut [f32]| match config.augmentation {
            Augmentation::None => under_test_transform(indices, out),
            Augmentation::CropFlip => {
                extract(out, self.encoder, self.train, indices, Preparation::CropFlip { seed, epoch }, |_| ())
            }
        };
        let data = ProbeData {
            width,
            classes: self.train.classes(),
            train_labels: self.train.labels(),
            val_features: &val_features,
            test_features: self.test_features,
            test_labels: self.test.labels(),
        };
        linear_probe::run(config, &data, &mut source, seed)
    }

    fn knn(&self, config: &KnnConfig) -> Result<KnnReport> {
        let width = self.encoder.vit().config().width;
        let (labels, classes) = (self.train.labels(), self.train.classes());
        let predicted = knn::classify(config, self.train_features, labels, classes, self.test_features, width)?;
        let correct = predicted.iter().zip(self.test.labels()).filter(|(a, b)| a == b).count();
        Ok(KnnReport {
            k: config.k.min(self.train.len()),
            temperature: config.temperature,
            test: 100.0 * correct as f64 / self.test.len() as f64,
        })
    }
}
