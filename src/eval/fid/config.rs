//! What is asked for.

use std::path::{Path, PathBuf};

use super::inception::Resize;
use crate::bail;
use crate::device::Device;
use crate::error::Result;
use crate::eval::distance::kernel::Subsets;
use crate::eval::encoder::{ModelSource, Placement};
use crate::eval::place::Place;
use crate::eval::transform::Fit;

/// Whose features are compared.
#[derive(Clone, Debug)]
pub enum Source {
    Inception { path: PathBuf, resize: Resize, device: Device },
    Encoder { model: ModelSource, placement: Placement, fit: Option<Fit> },
}

/// A run of `stablerep eval fid`.
#[derive(Clone, Debug)]
pub struct FidConfig {
    pub source: Source,
    pub real: PathBuf,
    /// Each a set, or a sweep of some (`generate --sweep-guidance`).
    pub generated: Vec<PathBuf>,
    pub kernel: Option<Subsets>,
    /// k of precision and recall.
    pub neighbours: Option<usize>,
    pub seed: u64,
    /// Damaged pictures of all sets together that are left out; one more is an error.
    pub max_bad: usize,
    /// Where `report.json` and the curve go.
    pub output: Option<PathBuf>,
}

impl FidConfig {
    /// Where it reports, of sets at `paths`: distances by an encoder, called FD, are another evaluation than those by
    /// Inception.
    pub(super) fn place(&self, paths: &[PathBuf]) -> Result<Place> {
        let (evaluation, features) = match &self.source {
            Source::Inception { .. } => ("fid", None),
            Source::Encoder { placement, .. } => ("fd", placement.features.as_deref()),
        };
        let read: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        Place::of(evaluation, self.output.as_deref(), features, &read)
    }

    /// Refuses numbers that nothing can be measured with, before anything is read.
    ///
    /// # Errors
    /// `Usage` naming the flag.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(Subsets { count, size }) = self.kernel {
            if count == 0 {
                bail!(Usage, "--kid-subsets 0: expected at least one");
            }
            if size < 2 {
                bail!(Usage, "--kid-subset-size {size}: expected 2 or more, as the kernel distance compares pairs");
            }
        }
        match self.neighbours {
            Some(0) => bail!(Usage, "--neighbours 0: expected at least one"),
            _ => Ok(()),
        }
    }
}
