//! Settings of the probe.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;

/// Base learning rates of the paper's ten heads.
pub const BASE_LRS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5];

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
    pub(super) fn kinds(&self) -> &'static [bool] {
        match self.batch_norm {
            BatchNorm::Both => &[false, true],
            BatchNorm::On => &[true],
            BatchNorm::Off => &[false],
        }
    }

    /// Refuses a batch that a batch norm would make a row of zeros.
    pub(super) fn check_batch(&self, batch: usize, cause: impl Fn() -> String) -> Result<()> {
        if batch == 1 && self.batch_norm != BatchNorm::Off {
            bail!(
                Usage,
                "{}: a batch norm makes a batch of one image a row of zeros; take more images a batch, or --batch-norm off",
                cause()
            );
        }
        Ok(())
    }

    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// `Usage` naming the setting.
    pub(super) fn check(&self) -> Result<()> {
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
}
