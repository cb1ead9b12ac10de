//! Sets of captions that batches are mixed of by weights: which captions of which set a step takes.
//!
//! Each set is gone through in passes of its own, in a new order each time. How many places of all steps before t went
//! to a set is ⌊t·n·w⌋, and what is left of them to the set of the largest weight: a function of the step alone, so
//! that a run goes on from its step, and every batch is mixed as the weights say to one caption of each set.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bail;
use crate::error::Result;
use crate::rng::{Domain, Stream};

/// A caption, and the pass of its set that takes it.
pub(super) type Place = (u32, u64);

/// Set, pass, and the order in which the pass takes the set's captions.
type Order = (usize, u64, Arc<Vec<u32>>);

/// The sets of a run.
#[derive(Debug)]
pub(super) struct Mixture {
    /// Captions of each set, which follow each other.
    sets: Vec<Range<u32>>,
    /// Shares of the sets, 1 together.
    shares: Vec<f64>,
    /// The set that takes what is left.
    rest: usize,
    n: usize,
    /// Those that were asked for last.
    orders: Mutex<Vec<Order>>,
    seed: Option<u64>,
}

impl Mixture {
    /// Of sets that hold the captions up to each of `ends`, for batches of `n`; shuffled where there is a seed.
    ///
    /// # Errors
    /// Usage error for a batch that some set has no whole place in; data error for a set that has fewer captions than a
    /// batch takes of it.
    pub fn new(ends: &[u32], weights: &[f64], n: usize, seed: Option<u64>, names: &[String]) -> Result<Self> {
        let total: f64 = weights.iter().sum();
        let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
        let begins = [0].into_iter().chain(ends.iter().copied());
        let sets: Vec<Range<u32>> = begins.zip(ends).map(|(begin, &end)| begin..end).collect();
        let rest = (0..shares.len()).fold(0, |best, k| if shares[k] > shares[best] { k } else { best });
        for ((set, share), name) in sets.iter().zip(&shares).zip(names) {
            let each = share * n as f64;
            if each < 1.0 {
                bail!(
                    Usage,
                    "--data {name}: its share of {share:.4} is less than one caption of a batch of {n}; give it more weight, or \
                     raise --batch"
                );
            }
            // What is left can be as many more as there are sets.
            let most = each.ceil() as usize + sets.len();
            if set.len() < most {
                bail!(
                    Data,
                    "{name}: holds {} usable caption(s), of which a batch takes up to {most}; lower --batch or its weight",
                    set.len()
                );
            }
        }
        Ok(Self { sets, shares, rest, n, orders: Mutex::default(), seed })
    }

    /// Places of the run's steps before `step` that went to each set.
    pub fn drawn(&self, step: u64) -> Vec<u64> {
        let places = step * self.n as u64;
        let mut drawn: Vec<u64> = self.shares.iter().map(|share| (places as f64 * share) as u64).collect();
        drawn[self.rest] = 0;
        drawn[self.rest] = places - drawn.iter().sum::<u64>();
        drawn
    }

    /// The captions of step `step` of the run, set by set.
    pub fn own(&self, step: u64) -> Vec<Place> {
        let (before, after) = (self.drawn(step), self.drawn(step + 1));
        (0..self.sets.len()).flat_map(|set| (before[set]..after[set]).map(move |at| self.place(set, at))).collect()
    }

    /// The set of a caption.
    pub fn set_of(&self, caption: u32) -> usize {
        self.sets.iter().position(|set| set.contains(&caption)).unwrap_or(0)
    }

    /// Captions of `set` that stand in for one of step `step`, which has `own`: those that its passes take next, none
    /// that the step holds.
    pub fn stand_ins<'a>(&'a self, own: &'a [Place], step: u64, set: usize) -> impl Iterator<Item = Place> + use<'a> {
        let (next, count) = (self.drawn(step + 1)[set], self.sets[set].len() as u64);
        let held = |caption: u32| own.iter().any(|place| place.0 == caption);
        (next..next + count).map(move |at| self.place(set, at)).filter(move |place| !held(place.0))
    }

    /// Place `at` of all that go to `set`.
    fn place(&self, set: usize, at: u64) -> Place {
        let count = self.sets[set].len() as u64;
        let pass = at / count;
        (self.order(set, pass)[(at % count) as usize], pass)
    }

    fn order(&self, set: usize, pass: u64) -> Arc<Vec<u32>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., order)) = orders.iter().find(|known| (known.0, known.1) == (set, pass)) {
            return Arc::clone(order);
        }
        let mut order: Vec<u32> = self.sets[set].clone().collect();
        if let Some(seed) = self.seed {
            Stream::new(seed, Domain::Shuffle, [pass as u32, set as u32 + 1, 0]).shuffle(&mut order);
        }
        let order = Arc::new(order);
        // A step is in two passes of a set at most.
        orders.retain(|known| known.0 != set || known.1 + 1 >= pass && known.1 <= pass + 1);
        orders.push((set, pass, Arc::clone(&order)));
        order
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn mixture(seed: Option<u64>) -> Mixture {
        let names = ["a", "b", "c"].map(str::to_owned);
        Mixture::new(&[40, 70, 100], &[5.0, 3.0, 2.0], 9, seed, &names).unwrap()
    }

    /// Shares hold to one place of each set, and every pass of a set takes each of its captions once.
    #[test]
    fn shares_and_passes() {
        let mixture = mixture(Some(7));
        let mut seen: BTreeMap<(usize, u64), Vec<u32>> = BTreeMap::new();
        for step in 0..60 {
            let own = mixture.own(step);
            assert_eq!(own.len(), 9);
            for (set, (drawn, share)) in mixture.drawn(step).iter().zip([0.5, 0.3, 0.2]).enumerate() {
                assert!((*drawn as f64 - share * 9.0 * step as f64).abs() <= 2.0, "{step} {set}: {drawn}");
            }
            for (caption, pass) in own {
                let set = [40, 70, 100].iter().position(|end| caption < *end).unwrap();
                seen.entry((set, pass)).or_default().push(caption);
            }
        }
        for ((set, pass), mut captions) in seen {
            let whole = captions.len() == [40, 30, 30][set];
            captions.sort_unstable();
            captions.dedup();
            assert!(whole && captions.len() == [40, 30, 30][set] || pass >= [6, 5, 3][set], "{set} {pass}");
        }
        assert_ne!(mixture.own(0), mixture.own(20));
    }

    #[test]
    fn stand_ins_are_of_the_set_and_not_in_the_batch() {
        let mixture = mixture(None);
        for step in [0, 8, 33] {
            let own = mixture.own(step);
            for &(caption, _) in &own {
                let set = |caption: u32| [40, 70, 100].iter().position(|end| caption < *end);
                let others: Vec<Place> = mixture.stand_ins(&own, step, mixture.set_of(caption)).take(5).collect();
                assert_eq!(others.len(), 5);
                assert!(others.iter().all(|other| set(other.0) == set(caption) && !own.iter().any(|o| o.0 == other.0)));
            }
        }
    }

    #[test]
    fn sets_without_a_place_and_small_ones_are_named() {
        let names = ["a", "b"].map(str::to_owned);
        let error = Mixture::new(&[40, 70], &[20.0, 1.0], 9, None, &names).unwrap_err().to_string();
        assert!(error.contains("--data b") && error.contains("--batch"), "{error}");
        let error = Mixture::new(&[40, 43], &[1.0, 1.0], 9, None, &names).unwrap_err().to_string();
        assert!(error.starts_with("b: holds 3"), "{error}");
    }
}
