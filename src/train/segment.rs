//! What segmentation has beside its encoder and the settings of every run.

use serde::{Deserialize, Serialize};

use super::loader::Scene;
use crate::bail;
use crate::error::Result;
use crate::image::{Classes, IGNORED};
use crate::models::segmenter::HeadKind;

/// The settings of `--method segment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    pub head: HeadKind,
    pub classes: usize,
    /// The number that files have for the first class: those below it are none.
    pub first_label: u8,
    /// What the learning rate of a layer is multiplied by for each layer above it.
    pub layer_decay: f64,
    /// What of the loss is the auxiliary head's.
    pub auxiliary: f64,
    /// Share of channels that an image leaves out in front of a classifier.
    pub drop_channels: f64,
}

impl Segment {
    /// How pictures are drawn and their classes read.
    pub(super) fn scene(&self, random: bool) -> Scene {
        Scene { classes: Classes { count: self.classes, first: self.first_label }, random }
    }

    /// # Errors
    /// Usage error naming the flag, what it was, and what is expected.
    pub fn validate(&self) -> Result<()> {
        let Self { classes, first_label, layer_decay, auxiliary, drop_channels, .. } = *self;
        let most = usize::from(IGNORED) - usize::from(first_label);
        if !(1..=most).contains(&classes) {
            bail!(
                Usage,
                "--classes {classes}: expected 1 to {most}: files number the classes of pixels from --first-label \
                 {first_label} to {}, {IGNORED} is none",
                IGNORED - 1
            );
        }
        for (flag, value, low, high) in [
            ("--layer-decay", layer_decay, 0.01, 1.0),
            ("--auxiliary-weight", auxiliary, 0.0, 100.0),
            ("--drop-channels", drop_channels, 0.0, 0.99),
        ] {
            if !(value.is_finite() && value >= low && value <= high) {
                bail!(Usage, "{flag} {value}: expected {low} to {high}");
            }
        }
        Ok(())
    }
}
