//! Times on a card: cold, between marks on the stream.

use crate::device::cuda::{Gpu, Mark, Owned};
use crate::error::Result;

/// How long one call of a kernel takes, over its repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    pub median_us: f64,
    pub min_us: f64,
    /// Half the distance of the quartiles, as a share of the median.
    pub noise: f64,
    pub repetitions: usize,
}

impl Timing {
    /// Of at least one measurement.
    fn of(mut microseconds: Vec<f64>) -> Self {
        microseconds.sort_by(f64::total_cmp);
        let at = |share: f64| microseconds[((microseconds.len() - 1) as f64 * share).round() as usize];
        let median_us = at(0.5);
        Self {
            median_us,
            min_us: microseconds[0],
            noise: (at(0.75) - at(0.25)) / 2.0 / median_us,
            repetitions: microseconds.len(),
        }
    }
}

/// Measures calls one by one.
pub struct Clock {
    /// Larger than L2; overwritten before every call.
    flush: Owned<u8>,
    /// Milliseconds of calls to warm up with and to measure, and the most calls of each.
    warm_up_ms: f64,
    measure_ms: f64,
    most: usize,
}

/// Fewest measured calls.
const FEWEST: usize = 7;

impl Clock {
    pub fn new(gpu: &Gpu, quick: bool) -> Result<Self> {
        let flush = gpu.zeros((2 * gpu.l2_bytes()?).max(64 << 20))?;
        let (warm_up_ms, measure_ms, most) = if quick { (20.0, 40.0, 20) } else { (100.0, 300.0, 100) };
        Ok(Self { flush, warm_up_ms, measure_ms, most })
    }

    /// Times `queue`, one call at a time with a cold L2, after it has run for a while.
    pub fn time(&self, gpu: &Gpu, queue: &dyn Fn(&Gpu) -> Result<()>) -> Result<Timing> {
        // The first call loads the kernel.
        let _ = self.once(gpu, queue, 1)?;
        let first = self.once(gpu, queue, 1)?[0];
        let calls = |ms: f64| ((ms * 1e3 / first.max(1.0)) as usize).clamp(FEWEST, self.most);
        let _ = self.once(gpu, queue, calls(self.warm_up_ms))?;
        Ok(Timing::of(self.once(gpu, queue, calls(self.measure_ms))?))
    }

    /// Microseconds of each of `calls` calls. All are queued before the first is waited for: the host stays ahead of
    /// the device behind the overwriting of L2, so that no launch is waited for between the marks.
    fn once(&self, gpu: &Gpu, queue: &dyn Fn(&Gpu) -> Result<()>, calls: usize) -> Result<Vec<f64>> {
        let mut marks: Vec<(Mark, Mark)> = Vec::with_capacity(calls);
        for _ in 0..calls {
            gpu.zero(self.flush.view())?;
            let before = gpu.timed_mark()?;
            queue(gpu)?;
            marks.push((before, gpu.timed_mark()?));
        }
        marks.iter().map(|(before, after)| Ok(f64::from(after.milliseconds_since(before)?) * 1e3)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timing_sums_up_its_calls() {
        let timing = Timing::of(vec![12.0, 10.0, 11.0, 50.0, 10.5]);
        assert_eq!((timing.median_us, timing.min_us, timing.repetitions), (11.0, 10.0, 5));
        assert!((timing.noise - 0.75 / 11.0).abs() < 1e-12);
        assert_eq!(Timing::of(vec![3.0]).noise, 0.0);
    }
}
