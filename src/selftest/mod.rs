//! Every kernel against its op on the CPU: the one body that the test suite runs on the simulated driver and
//! `stablerep selftest` on a user's own card.

use crate::device::cuda::Gpu;
use crate::error::Result;
use crate::ops;
use crate::ops::check::{Case, Checks};

/// Lists the ops that have a `check.rs`, which the build script finds, by name.
macro_rules! checked_ops {
    ($($op:ident)*) => {
        /// All checks, by op.
        pub const GROUPS: &[(&str, Checks)] = &[$((stringify!($op), ops::$op::check::CHECKS),)*];
    };
}
include!(concat!(env!("OUT_DIR"), "/checked_ops.rs"));

/// Which checks to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Awkward shapes, small enough for the simulated driver.
    Quick,
    /// [`Checks::full_size`] alone.
    FullSize,
    /// All of these, and shapes that take a real card to run in reasonable time.
    Everything,
}

/// Which checks to run, on which inputs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only checks whose op or name contains this.
    pub filter: Option<String>,
    pub seed: u64,
    pub extent: Extent,
}

/// How one check ended.
#[derive(Debug)]
pub struct Outcome {
    pub op: &'static str,
    pub check: &'static str,
    pub seconds: f64,
    /// Why the check does not apply to this card.
    pub skipped: Option<&'static str>,
    /// What it found out about the card.
    pub note: Option<&'static str>,
    pub result: Result<()>,
}

/// Runs the chosen checks in order, telling `each` as they end. Goes on after a wrong result; a lost device fails what
/// follows too.
pub fn run(gpu: &Gpu, options: &Options, mut each: impl FnMut(&Outcome)) -> usize {
    let wanted = |op: &str, name: &str| options.filter.as_deref().is_none_or(|f| op.contains(f) || name.contains(f));
    let (quick, full_size) = (options.extent != Extent::FullSize, options.extent != Extent::Quick);
    let quick = GROUPS.iter().filter(|_| quick).map(|&(op, checks)| (op, checks.quick));
    let full_size = GROUPS.iter().filter(|_| full_size).map(|&(op, checks)| (op, checks.full_size));
    let full = options.extent == Extent::Everything;
    let mut count = 0;
    for (op, checks) in quick.chain(full_size) {
        for check in checks.iter().filter(|check| wanted(op, check.name)) {
            let started = std::time::Instant::now();
            let case = Case::new(gpu.clone(), options.seed, full);
            let result = (check.run)(&case).and_then(|()| gpu.synchronize());
            let (seconds, skipped, note) = (started.elapsed().as_secs_f64(), case.skipped(), case.note());
            each(&Outcome { op, check: check.name, seconds, skipped, note, result });
            count += 1;
        }
    }
    count
}
