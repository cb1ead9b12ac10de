//! What calls that do less change: the same noise drawn with every call whole and guided, and as a run draws it.

use std::path::PathBuf;

use super::config::Config;
use super::pairs::{Pairs, Way, draw};
use super::pipeline::Pipeline;
use crate::bail;
use crate::captions::Caption;
use crate::error::Result;
use crate::image::Difference;
use crate::metrics::Progress;

/// Name of the sheet in the output folder.
const SHEET: &str = "compare.png";

/// Captions on it.
const CAPTIONS: usize = 8;

/// What was found.
#[derive(Clone, Debug)]
pub struct Compared {
    pub sheet: PathBuf,
    /// How far each picture is from the one drawn with every call whole and guided.
    pub differences: Vec<(String, Difference)>,
    /// FLOPs of the UNet for a picture, of those of that one.
    pub work: f64,
}

impl Config {
    /// Refuses a comparison of a run with itself.
    pub(super) fn check_compare(&self) -> Result<()> {
        let less = self.drawing.guidance_interval.is_some() || self.drawing.cache_every.is_some_and(|every| every > 1);
        if self.compare && !less {
            bail!(
                Usage,
                "--compare: every call is whole and guided already; give --guidance-interval or --cache-every"
            );
        }
        Ok(())
    }
}

/// Draws the first captions both ways, into a sheet in the folder of the run's first set.
pub(super) fn compare(config: &Config, captions: &[Caption], pipeline: &mut Pipeline) -> Result<Compared> {
    let (guidance_scale, folder) = config.sets().swap_remove(0);
    let captions = &captions[..captions.len().min(CAPTIONS)];
    let progress = Progress::bar(2 * captions.len() as u64, "images", ("image", 1));
    let mut drawn =
        |whole: bool| draw(pipeline, Way { seed: config.drawing.seed, guidance_scale, whole }, captions, &progress);
    let pairs = Pairs { captions, before: drawn(true)?, after: drawn(false)? };
    progress.finish();
    let sheet = folder.join(SHEET);
    pairs.write(&sheet, "every call whole and guided, and as asked for")?;
    Ok(Compared { sheet, differences: pairs.differences(), work: pipeline.flops().share() })
}
