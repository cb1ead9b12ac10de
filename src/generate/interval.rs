//! The part of a run in which there is guidance.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// From where to where of a run its calls of the network are guided, as shares of all calls: the first of them is the
/// one at ⌊from·calls⌋, and the one at ⌊to·calls⌋ is no longer among them, as in diffusers' guiders. Guidance matters
/// least at the ends of a run (Kynkäänniemi et al. 2024, arXiv 2404.07724), where one branch is half the work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval {
    from: f32,
    to: f32,
}

impl Interval {
    /// Of a run of `calls`, those that are guided.
    pub(super) fn of(self, calls: usize) -> Range<usize> {
        let at = |share: f32| (f64::from(share) * calls as f64) as usize;
        at(self.from)..at(self.to)
    }
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::Usage(format!("{text}: expected two shares of the run, from 0 to 1, such as 0,0.5 or 0.2,0.8"));
        let (from, to) = text.split_once(',').ok_or_else(wrong)?;
        let share = |text: &str| text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share));
        match (share(from), share(to)) {
            (Some(from), Some(to)) if from < to => Ok(Self { from, to }),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Interval {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Interval {
    /// As the flag takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.from, self.to)
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_calls() {
        let calls = |text: &str, calls: usize| text.parse::<Interval>().unwrap().of(calls);
        assert_eq!((calls("0,1", 50), calls("0.2,0.8", 50), calls("0, 0.5", 7)), (0..50, 10..40, 0..3));
        assert_eq!((calls("0,0.1", 4), calls("0.99,1", 4)), (0..0, 3..4));
        assert_eq!("0.20,.8".parse::<Interval>().unwrap().to_string(), "0.2,0.8");
        for text in ["", "0", "0.5,0.5", "0.8,0.2", "-0.1,1", "0,1.5", "0,1,2", "a,b", "0,nan"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }
}
