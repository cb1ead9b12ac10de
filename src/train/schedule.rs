//! Learning rate per iteration: linear from 0 over the warm-up, then half a cosine or a straight line to the last rate.

use serde::{Deserialize, Serialize};

/// From `first` to `last` in half a cosine, where `share` of the way is gone.
pub(super) fn cosine(first: f64, last: f64, share: f64) -> f64 {
    last + 0.5 * (first - last) * (1.0 + (std::f64::consts::PI * share).cos())
}

/// The share of the way that a momentum copy goes behind an update: one minus its momentum, which begins at `base` and
/// ends at 1, where `share` of the run is done.
pub(super) fn follow(base: f64, share: f64) -> f32 {
    cosine(1.0 - base, 0.0, share) as f32
}

/// Where a run is: what the settings of an update follow from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Learning rate.
    pub lr: f64,
    /// Share of the run that is done before the update, and with it.
    pub before: f64,
    pub after: f64,
    /// Iterations of an epoch.
    pub epoch: u64,
}

impl Position {
    /// The first update of a run without an end.
    pub fn first(lr: f64) -> Self {
        Self { lr, before: 0.0, after: 0.0, epoch: 0 }
    }
}

/// How a learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// In half a cosine
    #[default]
    Cosine,
    /// In a straight line
    Linear,
}

/// The learning rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Rate at the end of the run.
    pub last: f64,
    /// Iterations of the run.
    pub steps: u64,
    /// Iterations of all of it, the warm-up included; `steps` rounded from it.
    pub length: f64,
    /// Iterations of the warm-up, may be a fraction.
    pub warmup: f64,
    pub decay: Decay,
}

impl Schedule {
    /// Iteration `step`, counted from 0, where an epoch has `epoch` of them.
    pub fn position(&self, step: u64, epoch: u64) -> Position {
        let share = |steps: u64| (steps as f64 / self.length).min(1.0);
        Position { lr: self.lr(step), before: share(step), after: share(step + 1), epoch }
    }

    /// The rate of iteration `step`, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup {
            return self.peak * step / self.warmup;
        }
        let progress = (step - self.warmup) / (self.length - self.warmup);
        let progress = progress.clamp(0.0, 1.0);
        match self.decay {
            Decay::Cosine => cosine(self.peak, self.last, progress),
            Decay::Linear => self.peak + (self.last - self.peak) * progress,
        }
    }
}
