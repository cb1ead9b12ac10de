//! Every kernel against its op on the CPU: the one body that the test suite runs on the simulated driver and
//! `stablerep selftest` on a user's own card.

mod attention;
mod augment;
mod batchnorm;
mod case;
mod contrastive;
mod conv;
mod cross_entropy;
mod e4m3;
mod embed;
mod gemm;
mod groupnorm;
mod l2norm;
mod layernorm;
mod linear;
mod optimizer;
mod patch_embed;
mod pixels;
mod reduce;
mod sampler_step;
mod self_attention;

use crate::device::cuda::Gpu;
use crate::error::Result;

pub use case::{Case, Tolerance};

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// What is compared: op, direction, storage type, kernel family.
    pub name: &'static str,
    /// Fails with what differs.
    pub run: fn(&Case) -> Result<()>,
}

/// All checks, by op.
pub const GROUPS: &[(&str, &[Check])] = &[
    ("attention", attention::CHECKS),
    ("augment", augment::CHECKS),
    ("batchnorm", batchnorm::CHECKS),
    ("contrastive", contrastive::CHECKS),
    ("conv", conv::CHECKS),
    ("cross_entropy", cross_entropy::CHECKS),
    ("e4m3", e4m3::CHECKS),
    ("embed", embed::CHECKS),
    ("gemm", gemm::CHECKS),
    ("groupnorm", groupnorm::CHECKS),
    ("l2norm", l2norm::CHECKS),
    ("layernorm", layernorm::CHECKS),
    ("linear", linear::CHECKS),
    ("optimizer", optimizer::CHECKS),
    ("patch_embed", patch_embed::CHECKS),
    ("pixels", pixels::CHECKS),
    ("reduce", reduce::CHECKS),
    ("sampler_step", sampler_step::CHECKS),
    ("self_attention", self_attention::CHECKS),
];

/// Layers of Stable Diffusion 1.5 with all their channels and pixels, by op. Small tensors do not fill a card's multiprocessors, wrap their rings
/// often, or reach beyond the first megabytes; these do, at one image, so that the simulated driver takes them in a minute.
pub const FULL_SIZE: &[(&str, &[Check])] =
    &[("attention", attention::FULL_SIZE), ("conv", conv::FULL_SIZE), ("groupnorm", groupnorm::FULL_SIZE)];

/// Which checks to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Awkward shapes, small enough for the simulated driver.
    Quick,
    /// [`FULL_SIZE`] alone.
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

/// Runs the chosen checks in order, telling `each` as they end. Goes on after a wrong result; a lost device fails what follows too.
pub fn run(gpu: &Gpu, options: &Options, mut each: impl FnMut(&Outcome)) -> usize {
    let wanted = |op: &str, name: &str| options.filter.as_deref().is_none_or(|f| op.contains(f) || name.contains(f));
    let groups = match options.extent {
        Extent::Quick => GROUPS.to_vec(),
        Extent::FullSize => FULL_SIZE.to_vec(),
        Extent::Everything => [GROUPS, FULL_SIZE].concat(),
    };
    let full = options.extent == Extent::Everything;
    let mut count = 0;
    for (op, checks) in groups {
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
