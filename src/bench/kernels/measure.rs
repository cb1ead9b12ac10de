//! Times on a card: cold, between marks on the stream, beside ceilings measured the same way.

use half::bf16;

use super::cublaslt;
use crate::device::cuda::{DType, Gpu, Library, Mark, Owned};
use crate::error::Result;
use crate::ops::bench::{Inputs, Product};
use crate::ops::gemm::cuda::{Epilogue, Layout, Matrix, Output, product};

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

/// What this card reaches at best, measured in this run (special functions: 16 per clock and multiprocessor at the
/// highest clock).
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// FLOP/s of an 8192³ product, the better of ours and cuBLASLt's.
    pub matrix: f64,
    /// Bytes per second of a copy, read and written.
    pub memory: f64,
    pub exps: f64,
    /// Of an 8192³ product, FLOP/s.
    pub ours: f64,
    pub cublaslt: Option<f64>,
    /// Microseconds between two marks with nothing between them; in every time.
    pub empty_us: f64,
}

/// Side of the product and bytes of the copy.
const SIDE: usize = 8192;
const COPY: usize = 1 << 30;

/// FLOP/s of an 8192³ product: ours and, where it is installed, cuBLASLt's.
pub fn product_rates(inputs: &Inputs, clock: &Clock, rival: Option<&Library>) -> Result<(f64, Option<f64>)> {
    let (m, flops) = (SIDE, 2.0 * (SIDE as f64).powi(3));
    let ours = {
        let (a, b, y) = (inputs.normal::<bf16>(m * m)?, inputs.normal::<bf16>(m * m)?, inputs.room::<bf16>(m * m)?);
        let matrix = |data: &Owned<bf16>| Matrix::new(data.view(), m, m);
        let (output, operands) = (Output::Bf16(matrix(&y)), (matrix(&a), matrix(&b)));
        let queue = |gpu: &Gpu| product(gpu, None, Layout::Nt, output, operands, Epilogue::Bias(None));
        flops / (clock.time(inputs.gpu(), &queue)?.median_us * 1e-6)
    };
    let plain = Product { m, n: m, k: m, dtype: DType::Bf16 };
    let cublaslt = match rival {
        Some(library) => cublaslt::best(library, inputs, clock, plain)?.map(|time| flops / (time.median_us * 1e-6)),
        None => None,
    };
    Ok((ours, cublaslt))
}

impl Ceilings {
    /// An H200 as it was measured: a bf16 product of random numbers, a copy; 16 special functions per clock of 1.83 GHz
    /// on 132 multiprocessors.
    pub const H200: Self =
        Self { matrix: 790e12, memory: 4.1e12, exps: 3.87e12, ours: 790e12, cublaslt: None, empty_us: 0.0 };

    pub fn measure(inputs: &Inputs, clock: &Clock, rival: Option<&Library>) -> Result<Self> {
        let gpu = inputs.gpu();
        let (ours, cublaslt) = product_rates(inputs, clock, rival)?;
        let memory = {
            let (from, to) = (inputs.normal::<f32>(COPY / 4)?, inputs.room::<f32>(COPY / 4)?);
            let queue = |gpu: &Gpu| gpu.copy(to.view(), from.view());
            2.0 * COPY as f64 / (clock.time(gpu, &queue)?.median_us * 1e-6)
        };
        let empty_us = clock.time(gpu, &|_| Ok(()))?.median_us;
        let exps = 16.0 * f64::from(gpu.sms()) * gpu.clock_hz()?;
        Ok(Self { matrix: ours.max(cublaslt.unwrap_or(0.0)), memory, exps, ours, cublaslt, empty_us })
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
