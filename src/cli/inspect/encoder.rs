//! Which encoder is looked at, and how pictures reach it.

use std::path::PathBuf;

use crate::bail;
use crate::cli::eval::encoder::Preparation;
use crate::error::Result;
use crate::eval::encoder::ModelSource;
use crate::models::vit::Whose;

/// Flags of both ways to look at an encoder.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Encoders: --attention and --nearest")]
pub struct Looked {
    /// Whose weights, of a run with a momentum copy [default: teacher for dino, else student]
    #[arg(long, value_enum, value_name = "WHOSE", requires = "looked")]
    weights: Option<Whose>,
    /// Attention heads, for a file that does not tell
    #[arg(long, requires = "looked")]
    heads: Option<usize>,
    /// Side of its images where it is not the file's, pixels: positions are resampled as timm does
    #[arg(long, value_name = "PIXELS", requires = "looked")]
    image_size: Option<usize>,
    #[command(flatten)]
    pub preparation: Preparation,
}

impl Looked {
    /// What is to be opened at `path`.
    pub fn source(&self, path: PathBuf) -> ModelSource {
        ModelSource::Checkpoint { path, heads: self.heads, weights: self.weights, image_size: self.image_size }
    }

    /// Refuses what was given for no encoder.
    ///
    /// # Errors
    /// `Usage` naming the flag.
    pub fn refuse(&self) -> Result<()> {
        let Preparation { fit, resize } = self.preparation;
        if fit.is_some() || resize.is_some() {
            bail!(Usage, "--fit and --resize go with --attention or --nearest");
        }
        Ok(())
    }
}
