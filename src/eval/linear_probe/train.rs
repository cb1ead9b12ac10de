//! The heads trained and evaluated, epoch by epoch.

use super::config::{LinearConfig, Select};
use super::report::{Evaluation, LinearReport, Scores, diverged};
use super::state::{Position, StateFile, Trained};
use crate::bail;
use crate::error::{Error, Result};
use crate::eval::dataset::hold_out;
use crate::eval::features::check_finite;
use crate::eval::heads::{Classifiers, Kind};
use crate::eval::stop::check_stop;
use crate::metrics::Progress;
use crate::rng::{Domain, Stream};

/// Share of the training images that [`Select::Val`] holds out.
const HELD_OUT: f64 = 0.1;

/// Learning-rate factor at `iteration` (0-based) of `total`: ½(1 + cos(π·iteration/total)), from 1 down to almost 0.
pub fn cosine(iteration: usize, total: usize) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * iteration as f64 / total as f64).cos())
}

/// Features of the training images. `features(epoch, indices, out)` writes `[indices.len(), D]`, epoch 0-based.
pub type FeatureSource<'a> = dyn FnMut(usize, &[usize], &mut [f32]) -> Result<()> + 'a;

/// What a probe is trained and tested on.
pub struct ProbeData<'a> {
    /// D.
    pub width: usize,
    pub classes: usize,
    pub train_labels: &'a [u32],
    /// Features of held-out images under the test transform, by index into the training images (only for
    /// [`Select::Val`]).
    pub val_features: &'a dyn Fn(&[usize]) -> Result<Vec<f32>>,
    /// `[N, D]`.
    pub test_features: &'a [f32],
    pub test_labels: &'a [u32],
    /// Makes heads where they are trained.
    pub heads: &'a dyn Fn(&Kind) -> Result<Box<dyn Classifiers>>,
    /// Where it is kept on the way, if anywhere.
    pub state: Option<StateFile>,
}

/// Trains all heads and evaluates them; one report per kind of heads (without batch norm first).
///
/// # Errors
/// `Usage` for settings that cannot be run, `Diverged` when a feature is not finite, `Interrupted` on a signal, and
/// whatever `train_features` returns.
pub fn run(
    config: &LinearConfig,
    data: &ProbeData,
    train_features: &mut FeatureSource,
    seed: u64,
) -> Result<Vec<LinearReport>> {
    config.check()?;
    let (train, val) = match config.select {
        Select::Test => ((0..data.train_labels.len()).collect(), Vec::new()),
        Select::Val => {
            let stream = Stream::new(seed, Domain::Probe, [0, 0, 3]);
            let (train, val) = hold_out(data.train_labels, data.classes, HELD_OUT, stream);
            if val.is_empty() {
                bail!(
                    Usage,
                    "--select val: no class has two training images, so none can be held out; use --select test"
                );
            }
            (train, val)
        }
    };
    check_finite(data.test_features, data.width, |row| format!("test image {row}"))?;
    let val_labels: Vec<u32> = val.iter().map(|&i| data.train_labels[i]).collect();
    let val_features = if val.is_empty() { Vec::new() } else { (data.val_features)(&val)? };
    check_finite(&val_features, data.width, |row| format!("training image {}", val[row]))?;

    let batch = config.batch.min(train.len());
    config.check_batch(batch, || "one training image".into())?;
    let lrs: Vec<f32> = config.base_lrs.iter().map(|lr| (lr * batch as f64 / 256.0) as f32).collect();
    let trained = config.kinds().iter().map(|&batch_norm| {
        let (width, classes) = (data.width, data.classes);
        let heads = (data.heads)(&Kind { width, classes, lrs: lrs.clone(), batch_norm, batch, seed })?;
        let (losses, evaluations) = (vec![0.0; lrs.len()], vec![Vec::new(); lrs.len()]);
        Ok(Trained { heads, scores: Scores { batch_norm, losses, evaluations } })
    });
    let mut trained: Vec<Trained> = trained.collect::<Result<_>>()?;

    let epochs = Epochs { config, data, seed, batch, train, val: (val_features, val_labels) };
    let mut at = data.state.as_ref().map_or(Ok(Position::default()), |state| state.read(&mut trained))?;
    let ended = epochs.train(&mut trained, &mut at, train_features);
    if let (Ok(()) | Err(Error::Interrupted(_)), Some(state)) = (&ended, &data.state) {
        state.keep(&trained, at)?;
    }
    ended?;
    trained.into_iter().map(|kind| kind.scores.report(config, batch)).collect()
}

/// The training of a probe, whose heads and position are elsewhere.
struct Epochs<'a> {
    config: &'a LinearConfig,
    data: &'a ProbeData<'a>,
    seed: u64,
    batch: usize,
    /// Places of the images that train.
    train: Vec<usize>,
    /// Features and labels of those held out.
    val: (Vec<f32>, Vec<u32>),
}

impl Epochs<'_> {
    fn steps(&self) -> usize {
        self.train.len() / self.batch
    }

    /// Goes on at `at` until the last epoch is evaluated. Where it ends early, `trained` is as it was at `at`.
    fn train(&self, trained: &mut [Trained], at: &mut Position, features: &mut FeatureSource) -> Result<()> {
        let Self { config, data, seed, batch, .. } = *self;
        let (steps, total) = (self.steps(), self.steps() * config.epochs);
        let progress = Progress::bar(total as u64, "linear probe", ("step", 1));
        progress.resume_at((at.epoch * steps + at.step) as u64);
        let mut order = self.train.clone();
        let mut x = vec![0.0; batch * data.width];
        while at.epoch < config.epochs {
            let epoch = at.epoch;
            order.sort_unstable();
            Stream::new(seed, Domain::Probe, [epoch as u32, 0, 1]).shuffle(&mut order);
            for (step, indices) in order.chunks_exact(batch).enumerate().skip(at.step) {
                check_stop()?;
                features(epoch, indices, &mut x)?;
                check_finite(&x, data.width, |row| format!("training image {}", indices[row]))?;
                let labels: Vec<u32> = indices.iter().map(|&i| data.train_labels[i]).collect();
                let schedule = cosine(epoch * steps + step, total) as f32;
                for Trained { heads, scores } in trained.iter_mut() {
                    if step == 0 {
                        scores.losses.fill(0.0);
                    }
                    let losses = heads.step(&x, &labels, schedule)?;
                    let share = 1.0 / steps as f64;
                    scores.losses.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += share * f64::from(loss));
                }
                at.step = step + 1;
                progress.advance(1);
                data.state.as_ref().map_or(Ok(()), |state| state.keep_if_due(trained, *at))?;
            }
            if (epoch + 1).is_multiple_of(config.eval_every) || epoch + 1 == config.epochs {
                let best = self.evaluate(trained, epoch + 1)?;
                progress.note(format!("best head {best:.2} %"));
            }
            *at = Position { epoch: epoch + 1, step: 0 };
        }
        progress.finish();
        Ok(())
    }

    /// Adds an evaluation after `epoch` (1-based) to the scores of all heads; the best on the test images.
    fn evaluate(&self, trained: &mut [Trained], epoch: usize) -> Result<f64> {
        let (data, (val_features, val_labels)) = (self.data, &self.val);
        let count = |kind: &Trained| {
            let test = percent(kind.heads.count_correct(data.test_features, data.test_labels)?, data.test_labels);
            let val = percent(kind.heads.count_correct(val_features, val_labels)?, val_labels);
            Ok((test, val))
        };
        // Nothing is added before all is counted: a signal may come between.
        let counted: Vec<_> = trained.iter().map(count).collect::<Result<_>>()?;
        let mut best = 0.0f64;
        for (Trained { scores, .. }, (test, val)) in trained.iter_mut().zip(counted) {
            let Scores { losses, evaluations, .. } = scores;
            for (head, evaluations) in evaluations.iter_mut().enumerate() {
                let share = |counted: &[f64]| if diverged(losses[head]) { 0.0 } else { counted[head] };
                let val = (!val_labels.is_empty()).then(|| share(&val));
                evaluations.push(Evaluation { epoch, test: share(&test), val });
            }
            best = test.into_iter().fold(best, f64::max);
        }
        Ok(best)
    }
}

fn percent(correct: Vec<usize>, labels: &[u32]) -> Vec<f64> {
    correct.into_iter().map(|count| 100.0 * count as f64 / labels.len().max(1) as f64).collect()
}
