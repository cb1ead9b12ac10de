//! From shards of pictures with captions to a report.

use std::path::{Path, PathBuf};

use super::report::{DiversityReport, Near, SetScores};
use super::scores::{scores, unit_rows, within};
use crate::bail;
use crate::device::Plan;
use crate::error::Result;
use crate::eval::dataset::Dataset;
use crate::eval::drawn::{Drawn, compared, sets};
use crate::eval::encoder::{Encoder, ModelSource, Placement, feature_memory};
use crate::eval::evaluator::take;
use crate::eval::features::{BATCH, extract_all};
use crate::eval::place::Place;
use crate::eval::report::ModelReport;
use crate::eval::screen::{Screened, screen};
use crate::eval::transform::{Fit, Transform};
use crate::say;

/// A run of `stablerep eval diversity`.
#[derive(Clone, Debug)]
pub struct DiversityConfig {
    pub model: ModelSource,
    pub placement: Placement,
    pub fit: Option<Fit>,
    /// Short side before the crop.
    pub resize: Option<usize>,
    /// Shards with captions, each a set, or a sweep of some (`generate --sweep-guidance`).
    pub sets: Vec<PathBuf>,
    /// Mean cosine above which the pictures of a caption are near-copies.
    pub near: f64,
    /// Damaged pictures of all sets together that are left out; one more is an error.
    pub max_bad: usize,
    /// Where `report.json` goes.
    pub output: Option<PathBuf>,
}

/// Opens encoder and pictures, looks at every picture once, and measures; writes `report.json` when there is an output
/// folder.
///
/// # Errors
/// `Usage` for settings that cannot be run; `Data` or `Io` naming the file; `Diverged` when features are not finite;
/// `Interrupted` on a signal.
pub fn run(config: &DiversityConfig) -> Result<DiversityReport> {
    if !(-1.0..=1.0).contains(&config.near) {
        bail!(Usage, "--near {}: expected a cosine, such as 0.95", config.near);
    }
    let mut paths = Vec::new();
    for path in &config.sets {
        paths.extend(sets(path)?);
    }
    let read: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let features = config.placement.features.as_deref();
    let mut place = Place::of("diversity", config.output.as_deref(), features, &read)?;
    let encoder = Encoder::placed(&config.model, &config.placement)?;
    let side = encoder.vit().config().image_size;
    let transform = Transform::new(side, config.fit, config.resize, encoder.preprocessing())?;
    let opened = paths.iter().map(|path| Dataset::open_captions(path)).collect::<Result<Vec<_>>>()?;
    opened.iter().flat_map(Dataset::notes).for_each(|note| say!("note: {note}"));
    let opened = screen(opened, config.max_bad)?;
    let most = opened.iter().map(|set| set.images.len()).max().unwrap_or(0);
    let memory = plan(&encoder, most, opened.iter().map(|set| set.images.classes()).max().unwrap_or(0));
    memory.check("take fewer pictures of each set, or a smaller encoder")?;
    say!("{memory}");
    place.take()?;
    let mut found = Vec::with_capacity(opened.len());
    let mut drawn = Vec::with_capacity(opened.len());
    for set in &opened {
        let how = Drawn::of(&set.images)?;
        found.push(measured(&encoder, set, transform, config.near, how.guidance_scale)?);
        drawn.push(how);
    }
    let mut remarks = Vec::new();
    if let (Some(least), true) = (found.iter().map(|set| set.images).min(), found.len() > 1)
        && least < most
    {
        remarks.push(format!(
            "warning: sets of {least} to {most} pictures: the Vendi score rises with N; give as many of each"
        ));
    }
    let names: Vec<(&str, &Drawn)> = opened.iter().map(|set| set.images.name()).zip(&drawn).collect();
    remarks.extend(compared(&names));
    let report =
        DiversityReport { model: ModelReport::of(&encoder), transform, near_above: config.near, sets: found, remarks };
    place.write(&report)?;
    Ok(report)
}

/// Scores of one set.
fn measured(
    encoder: &Encoder,
    set: &Screened,
    transform: Transform,
    limit: f64,
    guidance_scale: Option<f64>,
) -> Result<SetScores> {
    let (images, width) = (&set.images, encoder.vit().config().width);
    let name = Path::new(images.name());
    let what = name.file_name().map_or_else(|| images.name().into(), |name| name.to_string_lossy());
    let features = extract_all(encoder, images, transform, &what)?;
    let rows = unit_rows(&features, width, |i| images.describe(i))?;
    let (labels, classes) = (images.labels(), images.classes());
    let mut near: Vec<Near> = within(&rows, width, labels, classes)
        .into_iter()
        .filter(|caption| caption.cosine > limit)
        .map(|caption| Near {
            caption: images.class_names()[caption.label as usize].clone(),
            pictures: caption.pictures,
            cosine: caption.cosine,
        })
        .collect();
    near.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
    Ok(SetScores {
        name: images.name().to_string(),
        guidance_scale,
        images: images.len(),
        bad: set.bad,
        scores: scores(&rows, width, labels, classes)?,
        near,
    })
}

/// Everything that is held beside encoder and pictures, of `most` pictures of as many captions.
fn plan(encoder: &Encoder, most: usize, captions: usize) -> Plan {
    let width = encoder.vit().config().width;
    let mut plan = Plan::dry();
    take(&mut plan, "features", "as computed", &[most, width]);
    take(&mut plan, "features", "of unit length", &[most, width, 2]);
    take(&mut plan, "scores", "sums of captions", &[captions, width, 2]);
    take(&mut plan, "scores", "products", &[most.min(width), most.min(width), 2, 2]);
    take(&mut plan, "scores", "cosines", &[rayon::current_num_threads(), 256, most, 2]);
    let images = BATCH.min(most);
    take(&mut plan, "encoder", "pixels", &[images, encoder.vit().config().image_len()]);
    feature_memory(&mut plan, encoder.vit(), images);
    plan
}
