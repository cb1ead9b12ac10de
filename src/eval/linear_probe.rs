//! The linear probe of the paper: ten learning rates at once on frozen features, with and without a batch norm before
//! the heads.
//!
//! lr = base · batch / 256, SGD with momentum 0.9 and no weight decay, per-iteration half-cosine to 0 without warm-up,
//! weights from N(0, 0.01). Every step takes a whole batch: what an epoch's order leaves over waits for the next epoch,
//! as in the official script (its loader's `drop_last`; behind a batch norm a batch of one image would be a row of
//! zeros). The paper reports the best head at the best evaluation on the test images; [`Select::Val`] chooses on a
//! tenth of the training images instead.

use serde::{Deserialize, Serialize};

use super::dataset::hold_out;
use super::evaluator::{Evaluator, Row, Score, Sizes, Task, take};
use super::features::{Preparation, check_finite, extract};
use super::heads::{EVAL_ROWS, Heads};
use super::stop::check_stop;
use crate::bail;
use crate::device::Plan;
use crate::error::Result;
use crate::metrics::Progress;
use crate::rng::{Domain, Stream};

/// Base learning rates of the paper's ten heads.
pub const BASE_LRS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5];

/// Share of the training images that [`Select::Val`] holds out.
const HELD_OUT: f64 = 0.1;

/// Which images choose the reported head and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// The test images, as the paper does: comparable with its tables, optimistic by what the choice fits.
    Test,
    /// A tenth of the training images, held out: the test images are looked at once.
    Val,
}

/// Which heads to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BatchNorm {
    /// Both kinds, side by side.
    Both,
    /// Heads behind a batch norm without affine part.
    On,
    /// Heads on the features as they are.
    Off,
}

/// What the training images go through before the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// Random resized crop (area 0.08–1, ratio 3/4–4/3) and flip, features computed anew each epoch: the paper's.
    CropFlip,
    /// The test transform; features are computed once.
    None,
}

/// Settings of the probe, which are flags too. [`Default`] is the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Linear probe")]
pub struct LinearConfig {
    /// Passes over the training images
    #[arg(long, default_value_t = 90)]
    pub epochs: usize,
    /// Images per step, at most all; what an epoch's order leaves beyond whole batches waits for the next epoch
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub batch: usize,
    /// Epochs between evaluations
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub eval_every: usize,
    /// Base learning rates, one head each (lr = base · batch / 256)
    #[arg(long = "lrs", value_name = "LR,…", value_delimiter = ',', default_values_t = BASE_LRS)]
    pub base_lrs: Vec<f64>,
    /// Batch norm (no affine part) before the heads
    #[arg(long, value_enum, default_value = "both")]
    pub batch_norm: BatchNorm,
    /// Augmentation of the training images
    #[arg(long, value_enum, default_value = "crop-flip")]
    pub augmentation: Augmentation,
    /// What chooses the reported head and epoch
    #[arg(long, value_enum, default_value = "test")]
    pub select: Select,
}

impl Default for LinearConfig {
    fn default() -> Self {
        Self {
            base_lrs: BASE_LRS.to_vec(),
            batch: 1024,
            epochs: 90,
            eval_every: 10,
            batch_norm: BatchNorm::Both,
            augmentation: Augmentation::CropFlip,
            select: Select::Test,
        }
    }
}

impl LinearConfig {
    /// Whether a batch norm stands before the heads, for each kind of heads.
    fn kinds(&self) -> &'static [bool] {
        match self.batch_norm {
            BatchNorm::Both => &[false, true],
            BatchNorm::On => &[true],
            BatchNorm::Off => &[false],
        }
    }

    /// Refuses a batch that a batch norm would make a row of zeros.
    fn check_batch(&self, batch: usize, cause: impl Fn() -> String) -> Result<()> {
        if batch == 1 && self.batch_norm != BatchNorm::Off {
            bail!(
                Usage,
                "{}: a batch norm makes a batch of one image a row of zeros; take more images a batch, or --batch-norm off",
                cause()
            );
        }
        Ok(())
    }
}

impl Evaluator for LinearConfig {
    fn key(&self) -> &'static str {
        "linear"
    }

    fn check(&self) -> Result<()> {
        if self.base_lrs.is_empty() || self.base_lrs.iter().any(|lr| !lr.is_finite() || *lr <= 0.0) {
            bail!(Usage, "--lrs {:?}: expected positive numbers", self.base_lrs);
        }
        for (i, lr) in self.base_lrs.iter().enumerate() {
            if self.base_lrs[..i].contains(lr) {
                bail!(Usage, "--lrs: {lr} is listed twice");
            }
        }
        for (flag, value) in [("--batch", self.batch), ("--epochs", self.epochs), ("--eval-every", self.eval_every)] {
            if value == 0 || value > 1 << 32 {
                bail!(Usage, "{flag} {value}: expected 1 to {}", 1u64 << 32);
            }
        }
        self.check_batch(self.batch, || "--batch 1".into())
    }

    fn reads_train_features(&self) -> bool {
        self.augmentation == Augmentation::None
    }

    fn plan(&self, plan: &mut Plan, Sizes { train, classes, width, .. }: Sizes) {
        let group = "linear probe";
        let batch = self.batch.min(train);
        let columns = self.base_lrs.len().saturating_mul(classes);
        if self.select == Select::Val {
            take(plan, group, "features of held-out images", &[train.div_ceil(10), width]);
        }
        for _ in self.kinds() {
            for what in ["weights", "gradients", "velocities"] {
                take(plan, group, what, &[width + 1, columns]);
            }
        }
        take(plan, group, "features of a step, as they are and normalised", &[2, batch, width]);
        take(plan, group, "logits of a step or an evaluation", &[batch.max(EVAL_ROWS.min(train)), columns]);
    }

    fn run(&self, task: &Task<'_>) -> Result<Score> {
        let reports = of_task(self, task)?;
        let row = |report: &LinearReport| Row {
            probe: if report.batch_norm { "linear, batch norm".into() } else { "linear".into() },
            top1: report.best.evaluation.test,
            base_lr: Some(report.best.base_lr),
            epoch: Some(report.best.evaluation.epoch),
            last: Some(report.last.evaluation.test),
        };
        let footnote = match self.select {
            Select::Test => {
                "Head and epoch selected on the test set as the paper does, which flatters by what the choice fits;\n\
                 --select val chooses on held-out training images.\n"
            }
            Select::Val => {
                "Head and epoch selected on a tenth of the training images, held out; the rest trained the heads.\n"
            }
        };
        let rows = reports.iter().map(row).collect();
        Score::new(self, reports, rows, footnote)
    }
}

/// Trains on photographs, each epoch anew where they are augmented.
fn of_task(config: &LinearConfig, task: &Task<'_>) -> Result<Vec<LinearReport>> {
    let (width, seed) = (task.width(), task.seed);
    let under_test_transform = |indices: &[usize], out: &mut [f32]| match config.augmentation {
        Augmentation::None => {
            for (out, &index) in out.chunks_exact_mut(width).zip(indices) {
                out.copy_from_slice(&task.train_features[index * width..(index + 1) * width]);
            }
            Ok(())
        }
        Augmentation::CropFlip => {
            extract(out, task.encoder, task.train, indices, Preparation::Test(task.transform), |_| ())
        }
    };
    let val_features = |indices: &[usize]| {
        let mut out = vec![0.0; indices.len() * width];
        under_test_transform(indices, &mut out).map(|()| out)
    };
    let mut source = |epoch: usize, indices: &[usize], out: &mut [f32]| match config.augmentation {
        Augmentation::None => under_test_transform(indices, out),
        Augmentation::CropFlip => {
            extract(out, task.encoder, task.train, indices, Preparation::CropFlip { seed, epoch }, |_| ())
        }
    };
    let data = ProbeData {
        width,
        classes: task.train.classes(),
        train_labels: task.train.labels(),
        val_features: &val_features,
        test_features: task.test_features,
        test_labels: task.test.labels(),
    };
    run(config, &data, &mut source, seed)
}

/// Top-1 of one head after one epoch, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// 1-based.
    pub epoch: usize,
    pub test: f64,
    /// On the held-out training images, when there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val: Option<f64>,
}

/// One head: its learning rate and how it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    pub base_lr: f64,
    /// base_lr · batch / 256.
    pub lr: f64,
    /// Mean cross-entropy over the last epoch; none where the head diverged. Such a head is wrong about everything and
    /// never chosen.
    pub train_loss: Option<f32>,
    pub evaluations: Vec<Evaluation>,
}

/// A chosen head at a chosen epoch; accuracies in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub base_lr: f64,
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// All heads of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearReport {
    pub batch_norm: bool,
    pub heads: Vec<HeadReport>,
    pub selected_on: Select,
    /// The best head at the best evaluation, by `selected_on`.
    pub best: Choice,
    /// The best head after the last epoch, by `selected_on`.
    pub last: Choice,
}

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
    let mut trained: Vec<Trained> = config
        .kinds()
        .iter()
        .map(|&batch_norm| Trained {
            batch_norm,
            heads: Heads::new(data.width, data.classes, &lrs, batch_norm, seed),
            losses: vec![0.0; lrs.len()],
            evaluations: vec![Vec::new(); lrs.len()],
        })
        .collect();

    let steps_per_epoch = train.len() / batch;
    let total = steps_per_epoch * config.epochs;
    let progress = Progress::bar(total as u64, "linear probe", ("step", 1));
    let mut order = train;
    let mut x = vec![0.0; batch * data.width];
    for epoch in 0..config.epochs {
        order.sort_unstable();
        Stream::new(seed, Domain::Probe, [epoch as u32, 0, 1]).shuffle(&mut order);
        trained.iter_mut().for_each(|kind| kind.losses.fill(0.0));
        for (step, indices) in order.chunks_exact(batch).enumerate() {
            check_stop()?;
            train_features(epoch, indices, &mut x)?;
            check_finite(&x, data.width, |row| format!("training image {}", indices[row]))?;
            let labels: Vec<u32> = indices.iter().map(|&i| data.train_labels[i]).collect();
            let schedule = cosine(epoch * steps_per_epoch + step, total) as f32;
            for kind in &mut trained {
                let losses = kind.heads.step(&x, &labels, schedule);
                let share = 1.0 / steps_per_epoch as f64;
                kind.losses.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += share * f64::from(loss));
            }
            progress.advance(1);
        }
        if (epoch + 1) % config.eval_every == 0 || epoch + 1 == config.epochs {
            for kind in &mut trained {
                let test = percent(kind.heads.count_correct(data.test_features, data.test_labels)?, data.test_labels);
                let val = percent(kind.heads.count_correct(&val_features, &val_labels)?, &val_labels);
                for (head, evaluations) in kind.evaluations.iter_mut().enumerate() {
                    let share = |counted: &[f64]| if diverged(kind.losses[head]) { 0.0 } else { counted[head] };
                    let val = (!val_labels.is_empty()).then(|| share(&val));
                    evaluations.push(Evaluation { epoch: epoch + 1, test: share(&test), val });
                }
                progress.note(format!("best head {:.2} %", test.iter().copied().fold(0.0, f64::max)));
            }
        }
    }
    progress.finish();
    trained.into_iter().map(|kind| kind.report(config, batch)).collect()
}

/// Heads of one kind while they train.
struct Trained {
    batch_norm: bool,
    heads: Heads,
    losses: Vec<f64>,
    evaluations: Vec<Vec<Evaluation>>,
}

impl Trained {
    fn report(self, config: &LinearConfig, batch: usize) -> Result<LinearReport> {
        let heads: Vec<HeadReport> = config
            .base_lrs
            .iter()
            .zip(self.losses.iter().zip(self.evaluations))
            .map(|(&base_lr, (&loss, evaluations))| HeadReport {
                base_lr,
                lr: base_lr * batch as f64 / 256.0,
                train_loss: (!diverged(loss)).then_some(loss as f32),
                evaluations,
            })
            .collect();
        let choose = |last_only: bool| {
            let candidates = heads.iter().filter(|head| head.train_loss.is_some()).flat_map(|head| {
                let skip = if last_only { head.evaluations.len() - 1 } else { 0 };
                head.evaluations[skip..].iter().map(|&evaluation| Choice { base_lr: head.base_lr, evaluation })
            });
            // The first of equals: the smaller learning rate, then the earlier epoch.
            candidates
                .reduce(|best, next| if next.score(config.select) > best.score(config.select) { next } else { best })
        };
        let (Some(best), Some(last)) = (choose(false), choose(true)) else {
            bail!(Diverged, "every head of the linear probe diverged; use smaller --lrs");
        };
        Ok(LinearReport { batch_norm: self.batch_norm, best, last, heads, selected_on: config.select })
    }
}

impl Choice {
    fn score(&self, select: Select) -> f64 {
        match select {
            Select::Test => self.evaluation.test,
            Select::Val => self.evaluation.val.unwrap_or(f64::NEG_INFINITY),
        }
    }
}

/// Whether a mean loss is none any more: not finite, or so large that f32 cannot hold its square.
fn diverged(loss: f64) -> bool {
    !loss.is_finite() || loss > 1e18
}

fn percent(correct: Vec<usize>, labels: &[u32]) -> Vec<f64> {
    correct.into_iter().map(|count| 100.0 * count as f64 / labels.len().max(1) as f64).collect()
}
