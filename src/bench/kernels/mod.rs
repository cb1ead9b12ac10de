//! `stablerep bench kernels`: every kernel over the models' real shapes.
//!
//! On a card each case is timed cold (its data is not in L2) and set beside its own roofline, made of ceilings measured
//! in the same run, and beside cuBLASLt where that library is installed. On the simulated driver, which knows no time,
//! the same cases run at reduced shapes and are counted instead: instructions, bytes, bank conflicts.
//!
//! The cases are what the ops list in their `bench.rs`.

mod ceilings;
mod cublaslt;
mod measure;
mod report;

use std::collections::HashSet;
use std::path::Path;

pub use self::report::Report;

use self::ceilings::{Ceilings, product_rates};
use self::measure::Clock;
use super::counts::Counter;
use crate::bail;
use crate::device::cuda::{Gpu, Library};
use crate::error::Result;
use crate::ops;
use crate::ops::bench::{Case, Inputs, Size};

/// Which kernels to run, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only cases whose op, kernel or shape contains this.
    pub filter: Option<String>,
    /// One shape per kernel and fewer repetitions.
    pub quick: bool,
    /// Where the simulated driver appends its counts.
    pub counts: Option<std::path::PathBuf>,
}

/// Whether the driver only imitates a device: then nothing it says is a time.
pub fn is_simulated(gpu: &Gpu) -> bool {
    gpu.name().contains("(simulated)")
}

/// FLOP/s of an 8192³ product on this card, the better of ours and cuBLASLt's: what a share of its peak is measured by.
pub fn product_rate(gpu: &Gpu) -> Result<f64> {
    let clock = Clock::new(gpu, false)?;
    let (ours, cublaslt) = product_rates(&Inputs::new(gpu), &clock, Library::open(gpu)?.as_ref())?;
    Ok(ours.max(cublaslt.unwrap_or(0.0)))
}

/// Lists the ops that have a `bench.rs`, which the build script finds, by name.
macro_rules! measured_ops {
    ($($op:ident)*) => {
        const OPS: &[fn(Size) -> Vec<Case>] = &[$(ops::$op::bench::cases,)*];
    };
}
include!(concat!(env!("OUT_DIR"), "/measured_ops.rs"));

/// Every case, by op.
fn all(size: Size) -> Vec<Case> {
    let mut all: Vec<Case> = OPS.iter().flat_map(|cases| cases(size)).collect();
    if size == Size::Reduced {
        // Cut down, some shapes of the models coincide.
        let mut seen = HashSet::new();
        all.retain(|case| seen.insert(case.title()));
    }
    all
}

/// The chosen cases, in the order of the ops.
fn chosen(size: Size, options: &Options) -> Vec<Case> {
    let mut seen = Vec::new();
    let wanted = |case: &Case| options.filter.as_deref().is_none_or(|filter| case.title().contains(filter));
    let mut cases: Vec<Case> = all(size).into_iter().filter(wanted).collect();
    if options.quick {
        cases.retain(|case| {
            let kernel = (case.op, case.kernel.clone());
            let new = !seen.contains(&kernel);
            seen.push(kernel);
            new
        });
    }
    cases
}

/// What bounds the chosen cases at full size on an H200, and the least time that leaves them, without running anything.
///
/// # Errors
/// Usage error for a filter that nothing matches.
pub fn predict(options: &Options, report: &mut Report) -> Result<()> {
    report.begin_predictions(&Ceilings::H200);
    for case in some(Size::Full, options, true)? {
        report.predicted(&case, &Ceilings::H200);
    }
    Ok(())
}

/// The chosen cases, of which there must be one; without those over e4m3 for cards that have none.
fn some(size: Size, options: &Options, e4m3: bool) -> Result<Vec<Case>> {
    let mut cases = chosen(size, options);
    cases.retain(|case| e4m3 || !case.e4m3);
    if cases.is_empty() {
        bail!(
            Usage,
            "bench kernels --filter {}: no kernel's name has that",
            options.filter.as_deref().unwrap_or_default()
        );
    }
    Ok(cases)
}

/// Runs the chosen cases, telling `report` of each as it ends.
///
/// # Errors
/// Usage error for a filter that nothing matches; device error when a kernel fails.
pub fn kernels(gpu: &Gpu, options: &Options, report: &mut Report) -> Result<()> {
    let size = if is_simulated(gpu) { Size::Reduced } else { Size::Full };
    let cases = some(size, options, gpu.has_e4m3())?;
    match size {
        Size::Full => time(gpu, &cases, options.quick, report),
        Size::Reduced => count(gpu, &cases, options.counts.as_deref(), report),
    }
}

fn time(gpu: &Gpu, cases: &[Case], quick: bool, report: &mut Report) -> Result<()> {
    let inputs = Inputs::new(gpu);
    let clock = Clock::new(gpu, quick)?;
    let rival = Library::open(gpu)?;
    let ceilings = Ceilings::measure(&inputs, &clock, rival.as_ref())?;
    report.begin_times(gpu, &ceilings, rival.is_some());
    for case in cases {
        let queue = (case.prepare)(&inputs)?;
        let ours = clock.time(gpu, &*queue)?;
        drop(queue);
        let theirs = match (&rival, case.rival) {
            (Some(library), Some(product)) => cublaslt::best(library, &inputs, &clock, product)?,
            _ => None,
        };
        report.timed(case, ours, theirs, &ceilings);
    }
    Ok(())
}

fn count(gpu: &Gpu, cases: &[Case], counts: Option<&Path>, report: &mut Report) -> Result<()> {
    let Some(path) = counts else {
        bail!(
            Usage,
            "the simulated driver has no times, only counts, and writes them where CUDA_SIM_STATS says when it starts; \
             run again with CUDA_SIM_STATS=FILE in the environment"
        );
    };
    let inputs = Inputs::new(gpu);
    report.begin_counts(gpu);
    for case in cases {
        let queue = (case.prepare)(&inputs)?;
        gpu.synchronize()?;
        let counter = Counter::start(path)?;
        queue(gpu)?;
        gpu.synchronize()?;
        report.counted(case, counter.finish()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(filter: Option<&str>, quick: bool) -> Options {
        Options { filter: filter.map(Into::into), quick, counts: None }
    }

    #[test]
    fn every_case_has_work_and_a_name_of_its_own() {
        for size in [Size::Full, Size::Reduced] {
            let cases = chosen(size, &options(None, false));
            let mut titles: Vec<String> = cases.iter().map(Case::title).collect();
            for case in &cases {
                assert!(case.work.bytes > 0.0 && case.work.flops >= 0.0, "{}", case.title());
            }
            titles.sort();
            let count = titles.len();
            titles.dedup();
            assert_eq!(titles.len(), count, "a case is listed twice");
        }
    }

    /// 2·64·64²·2880·320 FLOPs at 790 TFLOP/s, and a norm that is bound by memory.
    #[test]
    fn predictions_need_no_device() {
        let mut report = Report::new(|_| ());
        predict(&options(None, false), &mut report).unwrap();
        let json = report.json();
        let rows = json["cases"].as_array().unwrap();
        assert_eq!(rows.len(), chosen(Size::Full, &options(None, false)).len());
        let row = |kernel: &str, shape: &str| rows.iter().find(|row| row["kernel"] == kernel && row["shape"] == shape);
        let conv = row("3×3 f16", "[64, 64×64, 320 → 320]").unwrap();
        assert_eq!((conv["bound"].as_str(), conv["roofline_us"].as_f64().unwrap().round()), (Some("matrix"), 612.0));
        let norm = rows.iter().find(|row| row["op"] == "layernorm").unwrap();
        assert_eq!(norm["bound"], "memory");
        assert!(predict(&options(Some("no such kernel"), false), &mut report).is_err());
    }

    #[test]
    fn quick_takes_one_shape_of_each_kernel() {
        let all = chosen(Size::Full, &options(None, false));
        let quick = chosen(Size::Full, &options(None, true));
        assert!(quick.len() < all.len());
        for case in &all {
            let same = quick.iter().filter(|other| (other.op, &other.kernel) == (case.op, &case.kernel));
            assert_eq!(same.count(), 1, "{}", case.title());
        }
    }

    #[test]
    fn filters_look_at_op_kernel_and_shape() {
        let some = |filter| chosen(Size::Full, &options(Some(filter), false)).len();
        assert!(some("layernorm") > 0 && some("layernorm backward") > 0 && some("100864") > 0);
        assert_eq!(some("no such kernel"), 0);
    }
}
