//! When to save.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// An interval between checkpoints: `500steps`, `0.5epochs`, `600s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SaveEvery {
    Steps(u64),
    Epochs(f64),
    Seconds(f64),
}

impl FromStr for SaveEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("expected a positive number with its unit, such as 500steps, 0.5epochs or 600s; got `{text}`");
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(expected)?;
        let (number, unit) = text.split_at(digits);
        let value: f64 = number.parse().map_err(|_| expected())?;
        if !(value > 0.0 && value < 1e12) {
            return Err(expected());
        }
        match unit {
            "step" | "steps" if value.fract() == 0.0 => Ok(Self::Steps(value as u64)),
            "epoch" | "epochs" => Ok(Self::Epochs(value)),
            "s" => Ok(Self::Seconds(value)),
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for SaveEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(n) => write!(f, "{n}steps"),
            Self::Epochs(n) => write!(f, "{n}epochs"),
            Self::Seconds(n) => write!(f, "{n}s"),
        }
    }
}

/// Tells when the next checkpoint is due.
#[derive(Debug)]
pub struct Cadence {
    every: SaveEvery,
    steps_per_epoch: u64,
    last: Instant,
}

impl Cadence {
    pub fn new(every: SaveEvery, steps_per_epoch: u64) -> Self {
        Self { every, steps_per_epoch, last: Instant::now() }
    }

    /// Whether to save now that `step` updates are done; the clock starts anew when it says so.
    pub fn due(&mut self, step: u64) -> bool {
        let due = match self.every {
            SaveEvery::Steps(n) => step.is_multiple_of(n),
            SaveEvery::Epochs(epochs) => {
                let passed = |step: u64| (step as f64 / (epochs * self.steps_per_epoch as f64)).floor();
                step > 0 && passed(step) > passed(step - 1)
            }
            SaveEvery::Seconds(seconds) => self.last.elapsed() >= Duration::from_secs_f64(seconds),
        };
        if due {
            self.last = Instant::now();
        }
        due
    }
}
