//! The part of a run in which there is guidance.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// From where to where of a run its calls of the network are guided, as shares of all calls: the first of them is call
/// ⌊from·calls⌋, from 0, and call ⌊to·calls⌋ is no longer among them, as in diffusers' guiders. Guidance matters
/// least at the ends of a run (Kynkäänniemi et al. 2024, arXiv 2404.07724), where one branch is half the work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval {
    from: f64,
    to: f64,
}

/// Products of shares and calls that are whole numbers in decimals may lie as far below them in binary.
const ROUNDING: f64 = 1e-9;

impl Interval {
    /// Of a run of `calls`, those that are guided.
    pub(super) fn of(self, calls: usize) -> Range<usize> {
        let at = |share: f64| (share * calls as f64 + ROUNDING) as usize;
        at(self.from)..at(self.to)
    }

    /// Whether it is the whole run.
    pub(super) fn is_all(self) -> bool {
        (self.from, self.to) == (0.0, 1.0)
    }
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Usage(format!(
                "{text}: expected A,B: where in the run guidance begins and where it ends, shares from 0 to 1, A below B, in one \
                 text such as 0,0.5 or 0.2,0.8"
            ))
        };
        let (from, to) = text.split_once(',').ok_or_else(wrong)?;
        let share =
            |text: &str| text.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share)).map(f64::abs);
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
        assert_eq!((calls("0.7,0.9", 10), calls("0.29,0.58", 100), calls("0.1,0.7", 20)), (7..9, 29..58, 2..14));
        assert_eq!((calls("0.1,0.7", 50), calls("0.9,1", 10)), (5..35, 9..10));
        assert_eq!("0.20,.8".parse::<Interval>().unwrap().to_string(), "0.2,0.8");
        assert_eq!("-0,1".parse::<Interval>().unwrap().to_string(), "0,1");
        for text in ["", "0", "0.5,0.5", "0.8,0.2", "-0.1,1", "0,1.5", "0,1,2", "a,b", "0,nan"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }
}
