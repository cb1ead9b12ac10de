//! What supervised fine-tuning has beside its encoder and the settings of every run.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::models::classifier::Pool;
use crate::ops::mix::Mix;
use crate::ops::rand_augment::RandAugment;

/// Most classes there may be.
pub const MOST_CLASSES: usize = 1 << 20;

/// The settings of `--method finetune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FineTune {
    /// As many as the data has where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    pub pool: Pool,
    /// What the learning rate of a layer is multiplied by for each layer above it.
    pub layer_decay: f64,
    pub label_smoothing: f64,
    /// Of the weights' moving average, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Random changes of each picture behind its crop.
    pub rand_augment: RandAugment,
    /// Odds that a rectangle of a picture is replaced by noise.
    pub erase: f64,
    /// α of the Beta distribution that mixup's share is drawn from, and of CutMix's; 0 for none.
    pub mixup: f64,
    pub cutmix: f64,
    /// Odds of CutMix where both are.
    pub mix_switch: f64,
}

impl FineTune {
    /// How pictures are mixed.
    pub fn mix(&self) -> Mix {
        let &Self { mixup, cutmix, mix_switch, .. } = self;
        Mix { mixup, cutmix, mix_switch }
    }

    /// # Errors
    /// Usage error naming the flag, what it was, and what is expected.
    pub fn validate(&self) -> Result<()> {
        let Self { layer_decay, label_smoothing, ema, erase, mixup, cutmix, mix_switch, .. } = *self;
        if let Some(classes) = self.classes.filter(|classes| !(1..=MOST_CLASSES).contains(classes)) {
            bail!(Usage, "--classes {classes}: expected 1 to {MOST_CLASSES}");
        }
        for (flag, value, low, high) in [
            ("--layer-decay", layer_decay, 0.01, 1.0),
            ("--label-smoothing", label_smoothing, 0.0, 0.99),
            ("--ema", ema.unwrap_or(0.0), 0.0, 1.0),
            ("--erase", erase, 0.0, 1.0),
            ("--mixup", mixup, 0.0, 4.0),
            ("--cutmix", cutmix, 0.0, 4.0),
            ("--mix-switch", mix_switch, 0.0, 1.0),
        ] {
            if !(value.is_finite() && value >= low && value <= high) {
                bail!(Usage, "{flag} {value}: expected {low} to {high}");
            }
        }
        Ok(())
    }
}
