//! Samplers as coefficient tables over the schedule a diffusers folder describes.

mod consistency;
mod ddim;
mod dpmpp_2m;
mod euler;
mod keys;
mod kind;
mod pndm;
mod schedule;
mod solver;
mod table;
mod unipc;

use crate::bail;
use crate::error::Result;

pub use kind::{SamplerKind, TimestepSpacing};
pub use schedule::{BetaSchedule, PredictionType, SchedulerConfig};
pub use table::{Row, Sampler};

impl Sampler {
    /// The table of a run of `steps` steps.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for a number of steps that the schedule has not, or a sampler the model cannot be
    /// drawn with.
    pub fn new(kind: SamplerKind, config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.check_steps(steps)?;
        let mut remarks = solver::check(config, kind)?;
        let mut sampler = match kind {
            SamplerKind::Ddim => ddim::table(config, steps),
            SamplerKind::Pndm => pndm::table(config, steps),
            SamplerKind::Euler => euler::table(config, steps, false),
            SamplerKind::EulerA => euler::table(config, steps, true),
            SamplerKind::Dpmpp2m => dpmpp_2m::table(config, steps, false),
            SamplerKind::Dpmpp2mKarras => dpmpp_2m::table(config, steps, true),
            SamplerKind::Unipc => unipc::table(config, steps),
            SamplerKind::Lcm => consistency::latent(config, steps),
            SamplerKind::Tcd => consistency::trajectory(config, steps),
        }?;
        if let Some(row) = sampler.rows().iter().find(|row| !row.is_finite()) {
            bail!(
                Data,
                "--sampler {kind}: the noise schedule of this model has no noise at step {}; use --sampler ddim",
                row.timestep
            );
        }
        sampler.remarks.append(&mut remarks);
        Ok(sampler)
    }
}
