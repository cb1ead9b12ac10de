//! From two and more sets of pictures to a report.

use super::config::FidConfig;
use super::extractor::Extractor;
use super::plan::plan;
use super::report::{FidReport, Found, SetReport};
use crate::bail;
use crate::error::Result;
use crate::eval::dataset::Dataset;
use crate::eval::distance::frechet::Normal;
use crate::eval::distance::kernel::{Subsets, kernel_distance};
use crate::eval::distance::moments::Moments;
use crate::eval::distance::neighbours::neighbours;
use crate::eval::drawn::{Drawn, compared, sets};
use crate::eval::screen::{Screened, screen};
use crate::image::encode_png;
use crate::say;
use crate::store;

/// Opens network and pictures, looks at every picture once, and measures; writes `report.json` and, of a sweep, the
/// curve `fid.png` when there is an output folder.
///
/// # Errors
/// `Usage` for settings that cannot be run; `Data` or `Io` naming the file, also for a set of a single picture;
/// `Diverged` when features are not finite; `Interrupted` on a signal.
pub fn run(config: &FidConfig) -> Result<FidReport> {
    config.check()?;
    let mut paths = vec![config.real.clone()];
    for path in &config.generated {
        paths.extend(sets(path)?);
    }
    let mut place = config.place(&paths)?;
    let extractor = Extractor::open(&config.source)?;
    let opened = paths.iter().map(|path| Dataset::open_pictures(path)).collect::<Result<Vec<_>>>()?;
    opened.iter().flat_map(Dataset::notes).for_each(|note| say!("note: {note}"));
    let opened = screen(opened, config.max_bad)?;
    let Some((real, generated)) = opened.split_first() else { bail!(Usage, "--real: expected pictures") };
    for set in &opened {
        check_count(config, set)?;
    }
    let width = extractor.width();
    let most = generated.iter().map(|set| set.images.len()).max().unwrap_or(0);
    let memory = plan(config, width, (real.images.len(), most), &extractor)?;
    memory.check("take fewer pictures of each set, or leave --kid and --precision-recall out")?;
    say!("{memory}");
    place.take()?;

    let real_features = extractor.features(real)?;
    let real_normal = Normal::of(&Moments::of(&real_features, width)?)?;
    let (mut found, mut drawn) = (Vec::new(), Vec::new());
    for set in generated {
        let features = extractor.features(set)?;
        let normal = Normal::of(&Moments::of(&features, width)?)?;
        let how = Drawn::of(&set.images)?;
        let kernel = |subsets| kernel_distance(&features, &real_features, width, subsets, config.seed);
        found.push(Found {
            set: described(set),
            guidance_scale: how.guidance_scale,
            frechet: real_normal.distance(&normal)?,
            kernel: config.kernel.map(kernel).transpose()?,
            neighbours: config.neighbours.map(|k| neighbours(&real_features, &features, width, k)).transpose()?,
        });
        drawn.push(how);
    }
    let report = FidReport {
        features: extractor.report(),
        width,
        remarks: remarks(real, (generated, &found), &drawn, width),
        real: described(real),
        generated: found,
        seed: config.seed,
    };
    if let (Some(folder), Some(curve)) = (&config.output, report.curve()) {
        store::write_atomic(folder.join("fid.png"), &encode_png(&curve)?)?;
    }
    place.write(&report)?;
    Ok(report)
}

/// Refuses a set that is too small for what is asked, before features are computed.
fn check_count(config: &FidConfig, set: &Screened) -> Result<()> {
    let (name, count) = (set.images.name(), set.images.len());
    if count < 2 {
        bail!(Data, "{name}: {count} picture has no covariance; give two at least, better some thousands");
    }
    match config.neighbours {
        Some(k) if count <= k => {
            bail!(Data, "{name}: {count} pictures have no {k} neighbours each; give more, or a lower --neighbours")
        }
        _ => Ok(()),
    }
}

fn described(set: &Screened) -> SetReport {
    SetReport { name: set.images.name().to_string(), images: set.images.len(), bad: set.bad }
}

/// What a reader of the figures must know.
fn remarks(real: &Screened, (generated, found): (&[Screened], &[Found]), drawn: &[Drawn], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let counts = |set: &Screened| set.images.len();
    let (Some(least), Some(most)) = (generated.iter().map(counts).min(), generated.iter().map(counts).max()) else {
        return lines;
    };
    if least != most {
        lines.push(format!(
            "warning: sets of {least} to {most} pictures: the Fréchet distance falls as N grows, so they cannot be \
             compared; give as many of each"
        ));
    }
    let fewest = least.min(real.images.len());
    if fewest <= width {
        lines.push(format!(
            "warning: N = {fewest} is not above the {width} dimensions of a feature: covariances are singular, and the \
             Fréchet distance is far above that of many pictures"
        ));
    }
    let mut kernel: Vec<Subsets> = found.iter().filter_map(|found| Some(found.kernel?.subsets)).collect();
    kernel.dedup();
    for Subsets { count, size } in kernel {
        lines.push(format!("KID: mean ± standard deviation over {count} subset(s) of {size} pictures of each set"));
    }
    let names: Vec<(&str, &Drawn)> = generated.iter().map(|set| set.images.name()).zip(drawn).collect();
    lines.extend(compared(&names));
    lines
}
